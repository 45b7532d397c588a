"""Several processes that serve one port: who starts them, and what each of them runs."""
