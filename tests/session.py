#!/usr/bin/env python3
"""Records the first console block of the README as a picture: tests/session.svg.

Types the lines behind `dev:…>` into a real `queued dev` in tmux, 118 columns wide, and draws what the terminal shows then, with
its colours. Needs tmux and a `queued` in the PATH: after `cargo build --release`, run it from the root of the repository as

    PATH=$PWD/target/release:$PATH tests/session.py

Arguments go to `queued dev`, such as --any-port where 7410 is taken.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
import time

COLUMNS, LINES, LIMIT_S = 118, 30, 60
CHAR_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 14
COLOURS = {30: "#484f58", 31: "#ff7b72", 32: "#3fb950", 33: "#d29922", 34: "#58a6ff", 35: "#bc8cff", 36: "#39c5cf", 37: "#b1bac4"}
COLOURS |= {90 + at: colour for at, colour in enumerate(["#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#f0f6fc"])}


def tmux(*arguments):
    """Runs tmux on a server of its own."""
    return subprocess.run(["tmux", "-L", f"queued-{os.getpid()}", *arguments], check=True, capture_output=True, text=True).stdout


def until_prompts(count):
    """Waits until the shell has shown so many prompts and stands behind the last one."""
    begin = time.monotonic()
    while time.monotonic() - begin < LIMIT_S:
        lines = [line.rstrip() for line in tmux("capture-pane", "-p", "-t", "dev").splitlines() if line.strip()]
        if sum(line.startswith("dev:") for line in lines) >= count and lines and re.fullmatch(r"dev:\S+>", lines[-1]):
            return
        time.sleep(0.1)
    raise SystemExit(f"no prompt within {LIMIT_S} s:\n" + tmux("capture-pane", "-p", "-t", "dev"))


def typed_lines():
    """What the README types in its first console block."""
    block = open("README.md", encoding="utf-8").read().split("```console\n")[1].split("```")[0]
    return re.findall(r"^dev:\S+> (.+)$", block, re.MULTILINE)


def spans(line):
    """The pieces of a line with their styles, of its escape sequences for colour."""
    style, pieces = {}, []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            pieces.append((part, dict(style)))
            continue
        for code in map(int, part[2:-1].split(";") if part[2:-1] else ["0"]):
            if code == 0:
                style = {}
            elif code == 1:
                style["font-weight"] = "bold"
            elif code == 2:
                style["opacity"] = "0.7"
            elif code in COLOURS:
                style["fill"] = COLOURS[code]
            elif code == 39:
                style.pop("fill", None)
    return pieces


def picture(text):
    """An SVG of what a terminal shows."""
    lines = text.rstrip("\n").split("\n")
    width, height = COLUMNS * CHAR_WIDTH + 2 * MARGIN, len(lines) * LINE_HEIGHT + 2 * MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img">',
        "<title>queued dev: three nodes, the leader is killed, the message is still there</title>",
        '<rect width="100%" height="100%" rx="8" fill="#0d1117"/>',
        '<g font-family="ui-monospace,Menlo,Consolas,monospace" font-size="14" fill="#e6edf3" xml:space="preserve">',
    ]
    for row, line in enumerate(lines):
        column, y = 0, MARGIN + (row + 0.8) * LINE_HEIGHT
        for piece, style in spans(line):
            if piece.strip():
                x = MARGIN + column * CHAR_WIDTH
                how = "".join(f' {name}="{value}"' for name, value in style.items())
                size = len(piece) * CHAR_WIDTH
                drawn.append(f'<text x="{x:.1f}" y="{y:.1f}" textLength="{size:.1f}"{how}>{html.escape(piece)}</text>')
            column += len(piece)
    return "\n".join([*drawn, "</g>", "</svg>"]) + "\n"


def main():
    with tempfile.TemporaryDirectory() as state:
        command = f"XDG_STATE_HOME={state} exec queued dev {' '.join(sys.argv[1:])}"
        tmux("new-session", "-d", "-s", "dev", "-x", str(COLUMNS), "-y", str(LINES), command)
        try:
            until_prompts(1)
            for count, line in enumerate(typed_lines(), start=2):
                tmux("send-keys", "-t", "dev", "-l", line)
                tmux("send-keys", "-t", "dev", "Enter")
                until_prompts(count)
            shown = tmux("capture-pane", "-e", "-p", "-t", "dev")
            tmux("send-keys", "-t", "dev", "exit", "Enter")
            end = time.monotonic() + LIMIT_S
            while time.monotonic() < end and subprocess.run(
                ["tmux", "-L", f"queued-{os.getpid()}", "has-session"], capture_output=True, check=False
            ).returncode == 0:
                time.sleep(0.1)
        finally:
            subprocess.run(["tmux", "-L", f"queued-{os.getpid()}", "kill-server"], capture_output=True, check=False)
    with open("tests/session.svg", "w", encoding="utf-8") as svg:
        svg.write(picture(shown))


if __name__ == "__main__":
    main()
