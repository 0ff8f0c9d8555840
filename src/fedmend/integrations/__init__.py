"""fedmend inside other tools: one package per tool, the only ones that import it. Each needs that tool's extra."""
