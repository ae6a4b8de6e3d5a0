/* What changes in here is read out; Gradio's own wrapper stays while its content is replaced. */
element.setAttribute('role', 'status');
element.setAttribute('aria-live', 'polite');
