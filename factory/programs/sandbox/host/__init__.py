"""The host's side of the sandbox: worker processes and the pool of them."""
