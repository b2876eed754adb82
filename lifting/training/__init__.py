"""Training of lifting networks on mmengine's Runner."""
