"""HRNet and other top-down networks of mmpose: configs, weights, crops, networks, keypoints."""
