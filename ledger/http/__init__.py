"""The HTTP edge: what comes in is bounded, parsed and refused here; what it means is decided by the service."""
