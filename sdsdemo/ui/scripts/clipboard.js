/* Puts a text on the clipboard, and says whether it is there. A page that came without https, and not from this machine, has
no `navigator.clipboard`; the older way is to copy what is selected. */
window.sdsdemoCopy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const before = document.activeElement;
    const field = Object.assign(document.createElement('textarea'), {value: text, style: 'position: fixed; opacity: 0'});
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand('copy');
    field.remove();
    before?.focus({preventScroll: true});
    return isCopied;
  }
};
