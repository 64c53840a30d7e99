"""UniVS: unified video segmentation with prompts as queries."""
