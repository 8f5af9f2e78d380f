"""SqueezeNet 1.1 without its classifier, as Keras has it: `fire2/squeeze1x1/kernel`, HWIO, BGR."""

from artifygan_jax.weights.rules import Plan, Source, same, size


def plan(source: Source) -> Plan:
    """The names are those of the net already."""
    size("SqueezeNet 1.1", source, "conv1/kernel", 3)
    rules = {
        r"(conv1|fire[2-9]/(?:squeeze1x1|expand1x1|expand3x3))/(kernel|bias)": (r"\1/\2", same)
    }
    return Plan("squeezenet", "squeezenet", {}, rules, source)
