"""Images with captions, to fine-tune on: folders, COCO's layout, streams from the Hub."""
