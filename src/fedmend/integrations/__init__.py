"""fedmend inside other tools: one package or module per tool, the only ones that import it; each needs its extra."""
