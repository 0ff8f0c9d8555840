"""What worker processes need, imported once by the fork server (see ``workers``)."""

import signal

import torch._dynamo  # noqa: F401

import fedmend.federation.worker_process  # noqa: F401

signal.signal(signal.SIGINT, signal.default_int_handler)  # a program's own forked processes inherit it
