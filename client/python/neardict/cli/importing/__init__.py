"""The parts of `neardict import`: what is found on disk, and how it comes into the service."""
