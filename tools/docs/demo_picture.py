"""Draws a recording of `motorbrain demo --record` as an animated SVG: who said what when, and the kill.

    python tools/docs/demo_picture.py RECORDING OUT.svg

Each line of a story is one `<text>` that a clip uncovers token by token, at the recorded times made slower by one
factor. `textLength` fixes its width, so that the clip fits whatever monospace font there is. Without animation
the last moment is seen. The same recording gives the same bytes.
"""

import json
import sys
from dataclasses import dataclass, field
from html import escape

# Measures in the picture's own units. At a width of 400 pixels letters are 11 pixels high.
WIDTH = 480
MARGIN = 12
INDENT = 12
LETTER = 7.8
LINE = 17
GAP = 7
COLUMNS = 55
# Seconds: how long the telling is shown, and how long its end stands.
TELLING = 11.0
END = 4.0

STYLE = """
svg { --back: #ffffff; --panel: #f6f8fa; --edge: #d0d7de; --ink: #1f2328; --soft: #59636e; --dead: #cf222e;
  --back-again: #0969da; --good: #1a7f37; --red: #ffebe9; }
@media (prefers-color-scheme: dark) {
  svg { --back: #0d1117; --panel: #151b23; --edge: #3d444d; --ink: #f0f6fc; --soft: #9198a1; --dead: #ff7b72;
    --back-again: #79c0ff; --good: #56d364; --red: #3c1618; }
}
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--ink);
  white-space: pre; }
.title, .name, .end { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
.title { font-weight: 600; font-size: 14px; }
.name, .end, .time { font-size: 12px; }
.name, .time, .words { fill: var(--soft); }
.after { fill: var(--back-again); }
.dead { fill: var(--dead); }
.good, .end { fill: var(--good); }
.end { font-weight: 600; font-size: 14px; }
"""


@dataclass
class Letter:
    """One letter of a story: when it was there, and as what (`words` of the teller, `said`, or `after` a death)."""

    text: str
    at: float
    kind: str


@dataclass
class Story:
    name: str
    actor: int
    letters: list[Letter] = field(default_factory=list)

    def add(self, text: str, at: float, kind: str) -> None:
        """Adds text, each run of white space as one space."""
        for letter in text:
            if letter.isspace():
                if self.letters and self.letters[-1].text != " ":
                    self.letters.append(Letter(" ", at, kind))
            elif letter.isprintable():
                self.letters.append(Letter(letter, at, kind))


@dataclass
class Recording:
    """What was seen, in seconds since the telling began."""

    stories: list[Story]
    dead: int
    died: float
    ready: float
    went_on: float
    end: float
    tokens: int

    @property
    def settled(self) -> float:
        """When the actor served again and its conversations went on, be it there or with another actor."""
        return max(self.ready, self.went_on)

    @property
    def actors(self) -> list[int]:
        return sorted({story.actor for story in self.stories})


def read(lines: list[str]) -> Recording:
    """Reads a recording; one without a kill, or without the proof that it changed nothing, is refused."""
    stories: dict[str, Story] = {}
    at = {"died": None, "ready": None, "goes_on": None}
    dead, end, tokens, equal = None, 0.0, 0, False
    gone_on: set[str] = set()
    for line in filter(str.strip, lines):
        event = json.loads(line)
        seconds = event.get("ms", 0) / 1000
        end = max(end, seconds)
        match event["event"]:
            case "begins":
                story = stories[event["conversation"]] = Story(event["conversation"], event["actor"])
                story.add(event["text"], 0.0, "words")
            case "words":
                stories[event["conversation"]].add(event["text"], seconds, "words")
            case "token":
                tokens += 1
                kind = "after" if event["conversation"] in gone_on else "said"
                stories[event["conversation"]].add(event["text"], seconds, kind)
            case "goes_on":
                gone_on.add(event["conversation"])
                at["goes_on"] = seconds
            case "died" | "ready" as what:
                dead = event["actor"]
                at[what] = seconds
            case "equal":
                equal = True
            case other:
                raise ValueError(f"the event `{other}` is none of a recording's")
    if None in at.values():
        raise ValueError(f"the recording lacks {', '.join(what for what, when in at.items() if when is None)}")
    if not equal:
        raise ValueError("the recording does not say that the tokens were equal")
    return Recording(list(stories.values()), dead, at["died"], at["ready"], at["goes_on"], end, tokens)


def wrap(letters: list[Letter], columns: int) -> list[list[Letter]]:
    """Lines of whole words; a word that is longer than a line is cut."""
    words: list[list[Letter]] = [[]]
    for letter in letters:
        if letter.text == " ":
            words.append([])
        words[-1].append(letter)
    lines: list[list[Letter]] = [[]]
    for word in words:
        while word:
            if len(lines[-1]) + len(word) <= columns:
                lines[-1] += word
                break
            bare = word[1:] if word[0].text == " " else word
            if len(bare) <= columns:
                lines.append([])
                word = bare
            else:
                room = columns - len(lines[-1])
                lines[-1] += word[:room]
                lines.append([])
                word = word[room:]
    return [line for line in lines if line]


def number(value: float) -> str:
    """Two digits behind the point at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


class Film:
    """Times of the recording as times of the picture."""

    def __init__(self, end: float):
        self.factor = TELLING / end
        self.length = TELLING + END

    def moment(self, seconds: float) -> float:
        """The share of the picture's length."""
        return seconds * self.factor / self.length

    def steps(self, attribute: str, steps: list[tuple[float, str]]) -> str:
        """An attribute that has each value from its time on; the first is there from the start."""
        last: dict[str, str] = {}
        for seconds, value in steps:
            last[f"{self.moment(seconds):.4f}"] = value
        times = ";".join(["0", *list(last)[1:]])
        return (
            f'<animate attributeName="{attribute}" calcMode="discrete" dur="{number(self.length)}s" '
            f'repeatCount="indefinite" keyTimes="{times}" values="{";".join(last.values())}"/>'
        )

    def shown(self, start: float, stop: float | None) -> str:
        """Something that is seen from `start` until `stop`; its opacity without animation says how it ends."""
        steps = [(0.0, "1" if start == 0 else "0")]
        if start > 0:
            steps.append((start, "1"))
        if stop is not None:
            steps.append((stop, "0"))
        return self.steps("opacity", steps)


class Picture:
    """Draws from top to bottom."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.film = Film(recording.end)
        self.parts: list[str] = []
        self.clips = 0
        self.y = MARGIN

    def text(self, x: float, y: float, text: str, kind: str, more: str = "", inside: str = "") -> None:
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" class="{kind}"{more}>{escape(text)}{inside}</text>')

    def draw(self) -> str:
        recording = self.recording
        self.text(MARGIN, self.y + 13, "Conversations go on when their actor is killed", "title")
        self.y += 24
        for actor in recording.actors:
            self.panel(actor)
        self.time()
        self.closing()
        height = number(self.y + MARGIN)
        about = (
            f"{len(recording.stories)} conversations are told at once by {len(recording.actors)} actors. "
            f"Actor {recording.dead} is killed in the middle and restarts; its conversations go on, and all "
            f"{recording.tokens} tokens are the same as without the kill."
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-labelledby="t d">\n'
            f'<title id="t">An actor dies, its conversations do not</title>\n<desc id="d">{escape(about)}</desc>\n'
            f"<style>{STYLE}</style>\n"
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="var(--back)"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )

    def panel(self, actor: int) -> None:
        """An actor's stories, its state above them."""
        stories = [(story, wrap(story.letters, COLUMNS)) for story in self.recording.stories if story.actor == actor]
        height = 28 + sum(16 + LINE * len(lines) + GAP for _, lines in stories)
        box = f'x="{MARGIN}" y="{self.y}" width="{WIDTH - 2 * MARGIN}" height="{height}" rx="6"'
        self.parts.append(f'<rect {box} fill="var(--panel)" stroke="var(--edge)"/>')
        x, y = MARGIN + INDENT, self.y + 19
        right = WIDTH - MARGIN - INDENT
        if actor == self.recording.dead:
            died, settled = self.recording.died, self.recording.settled
            gone = self.film.shown(died, settled)
            self.parts.append(f'<rect {box} fill="var(--red)" stroke="var(--dead)" opacity="0">{gone}</rect>')
            self.state(right, y, "running", "name", 0, died)
            self.state(right, y, "killed, starts again", "name dead", died, settled)
            started = f"killed, started again after {milliseconds(self.recording.ready - died)}"
            self.state(right, y, started, "name after", settled, None)
        else:
            self.state(right, y, "running", "name", 0, None)
        self.text(x, y, f"actor {actor}", "title")
        self.y += 28
        for story, lines in stories:
            self.text(x, self.y + 11, story.name, "name")
            self.y += 16
            for line in lines:
                self.line(x, line)
                self.y += LINE
            self.y += GAP
        self.y += 10

    def state(self, right: float, y: float, text: str, kind: str, start: float, stop: float | None) -> None:
        more = ' text-anchor="end"' + (' opacity="0"' if stop is not None else "")
        inside = "" if start == 0 and stop is None else self.film.shown(start, stop)
        self.text(right, y, text, kind, more, inside)

    def line(self, x: float, line: list[Letter]) -> None:
        """A line that is uncovered as its letters came."""
        self.clips += 1
        clip, width = f"c{self.clips}", number(len(line) * LETTER)
        steps = [(0.0, number(LETTER * sum(letter.at == 0 for letter in line)))]
        for column, letter in enumerate(line, 1):
            if letter.at > 0:
                steps.append((letter.at, number(column * LETTER)))
        inside = self.film.steps("width", steps)
        self.parts.append(
            f'<clipPath id="{clip}"><rect x="{number(x)}" y="{self.y}" width="{width}" height="{LINE}">{inside}</rect>'
            f"</clipPath>"
        )
        runs: list[tuple[str, str]] = []
        for letter in line:
            if runs and runs[-1][0] == letter.kind:
                runs[-1] = (letter.kind, runs[-1][1] + letter.text)
            else:
                runs.append((letter.kind, letter.text))
        spans = "".join(f'<tspan class="{kind}">{escape(text)}</tspan>' for kind, text in runs)
        self.parts.append(
            f'<text x="{number(x)}" y="{self.y + 13}" textLength="{width}" clip-path="url(#{clip})">{spans}</text>'
        )

    def time(self) -> None:
        """The recorded time as a line, the death on it, and where we are."""
        recording, y = self.recording, self.y + 8
        left, right = MARGIN + INDENT, WIDTH - MARGIN - INDENT

        def x(seconds: float) -> float:
            return left + (right - left) * seconds / recording.end

        def bar(start: float, stop: float, colour: str) -> None:
            self.parts.append(
                f'<rect x="{number(x(start))}" y="{y - 2}" width="{number(x(stop) - x(start))}" height="4" rx="2" '
                f'fill="var({colour})"/>'
            )

        bar(0, recording.end, "--edge")
        bar(recording.died, recording.settled, "--dead")
        stops = f"0;{number(TELLING / self.film.length)};1"
        self.parts.append(
            f'<circle cx="{number(right)}" cy="{y}" r="5" fill="var(--ink)"><animate attributeName="cx" '
            f'dur="{number(self.film.length)}s" repeatCount="indefinite" keyTimes="{stops}" '
            f'values="{left};{number(right)};{number(right)}"/></circle>'
        )
        pause = milliseconds(recording.went_on - recording.died)
        note = f"{recording.end:.1f} s, shown {self.film.factor:.0f} times slower; "
        note += f"actor {recording.dead}'s conversations paused for {pause}"
        self.text(left, y + 20, note, "time name")
        self.y += 34

    def closing(self) -> None:
        end = self.recording.end
        text = f"All {self.recording.tokens} tokens are the same as without the kill."
        self.text(MARGIN + INDENT, self.y + 15, text, "end", "", self.film.shown(end, None))
        self.y += 20


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    source, target = arguments
    with open(source, encoding="utf-8") as file:
        recording = read(file.readlines())
    with open(target, "w", encoding="utf-8", newline="\n") as file:
        file.write(Picture(recording).draw())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
