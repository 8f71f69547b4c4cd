"""ann2snn: turns a trained network into a spiking network, and proves that it is the same network."""
