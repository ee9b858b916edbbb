"""What attribution methods share: checked arguments, targets, resizing, the base classes."""
