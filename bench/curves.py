"""The curves of a run as one picture: `python bench/curves.py runs/half curves.png KEY [KEY ...]`.

Each KEY of metrics.jsonl is a panel; `A+B` draws two in one. Needs matplotlib (`[report]`).
"""

import json
import pathlib
import sys


def main(workdir: str, output: str, *panels: str) -> None:
    """Reads metrics.jsonl of `workdir` and writes `output`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    text = (pathlib.Path(workdir) / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, panel in zip(axes.flat, panels):
        for key in panel.split("+"):
            points = [(line["step"], line[key]) for line in lines if key in line]
            if not points:
                raise SystemExit(f"error: {workdir} has no {key!r} in metrics.jsonl")
            axis.plot(*zip(*points), label=key, linewidth=1)
        axis.legend(fontsize=7, frameon=False)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(f"error: WORKDIR, OUTPUT and at least one KEY are needed\n{__doc__}")
    main(*sys.argv[1:])
