"""Official ground truth and predictions, in the layouts that their authors publish, opened for scoring."""
