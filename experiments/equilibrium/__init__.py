"""The fixed point: cost, convergence, certificate, gradients."""
