"""The only room that imports PyTorch: the differentiable operator, the network, losses, augmentation and the loop."""
