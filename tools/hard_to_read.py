"""List sentences that somebody whose English is a third language probably reads twice.

python tools/hard_to_read.py [FILE ...]          file, cell, reason and sentence, a line for each
python tools/hard_to_read.py --share [FILE ...]  how many sentences in a hundred, a line for each file

Without a FILE it reads README.md and everything in notebooks/. A line is a place to look at, not a verdict: a good
sentence may stay. Cells count from 0, as in the notebook's file. Standard library only.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LONG = 32  # words in a sentence
LATE = 9  # words before the subject
ASIDE = 10  # words in brackets that are no aside any more
CLAUSES = 4  # of them in one sentence
AIM = 3.0  # of a hundred sentences

REFERENCE = re.compile(r"\s*\([^()]*(?:\bet al\.|\b(?:sections?|figures?|equations?|notebook) \d)[^()]*\)")
WORD = re.compile(r"\w[\w'’.,×-]*")

CLAUSE = r"\b(?:which|who|whom|whose|where|what|that|because|although|while|since|if|unless|when|until|whether)\b"
SUBORDINATE = r"(?:After|Although|As|Because|Before|If|Once|Since|Unless|Until|When|Where|While)\b"
PREPOSITION = r"(?:After|Among|At|Before|Between|By|Compared|During|For|From|In|Instead|On|Through|To|With|Without)\b"
SUBJECT = (  # where one begins: a pronoun, or an article that no preposition stands before
    r"\b(?!(?:and|as|at|between|but|by|for|from|in|into|of|on|or|over|than|through|to|under|with|without)\b)[\w×-]+ "
    r"(?=(?:the|an?|each|every|its|their|our|your|no|it|we|you|they|this|there|nobody)\b)"
)
NOT_A_SUBJECT = r"(?!(?:this|that|these|those|it|we|you|they|there|nothing|one|each|all|what)\b)"
NOUNS = rf"(?: (?:the|an?|two|its))?(?: {NOT_A_SUBJECT}[\w×-]+)"
PLACE = (  # "In place of the ReLU", "Between two known rows"
    r"(?:Above|Among|At|Behind|Below|Beside|Between|From|In|Inside|On|Over|Under|Within)"
    rf"{NOUNS}{{1,3}}?(?: (?:of|to|in){NOUNS}{{1,2}}?)?"
)


class Habit(NamedTuple):
    """A turn of phrase that English does not have, or that is hard to take apart."""

    pattern: str
    cure: str


HABITS = {
    "the own": Habit(r"\bthe own\b", "its own, or say whose"),
    "at one layer": Habit(r"\bat one layer\b", "in a single layer"),
    "inside of": Habit(r"\binside of\b", "inside"),
    "in the small": Habit(r"\bin the (?:small|large)(?=[\s,.:;]|$)(?! \w+s?\b)", "at a small scale, in detail"),
    "what has": Habit(
        r"\b(?:what|how many|how much) \w+ (?:has|had|have) (?:the|an?|this|each|every|one|it|they)\b",
        "does … have",
    ),
    "how looks": Habit(r"\b(?:how|what) (?:looks?|means?|works?|goes) (?:the|an?|this|that|it)\b", "does … look"),
    "look what": Habit(r"\blooks? what\b", "see what"),
    "anew": Habit(r"\banew\b", "again, or from the start"),
    "negation first": Habit(
        r"^(?:And |But )?(?:Never|Nor|Nowhere|Neither|Seldom|Rarely|Hardly|Only then|Not only|Not until)\b"
        r"(?: \w+){0,3} (?:is|are|was|were|do|does|did|has|have|can|will) (?:it|there|the|we|you|they|an?|this)\b",
        "subject first",
    ),
    "degree first": Habit(
        r"^(?:So|More|Less|Most|Least|Not so) \w+ (?:is|are|was|were) (?:the|an?|its|these|those)\b", "subject first"
    ),
    "place first": Habit(
        rf"^(?:And |But |So )?{PLACE} (?:stands?|lies?|comes?|belongs?|remains?|follows?|is|are|was|were)"
        r" (?:the|an?|no|nothing|something|its|two|three|four|five|only|\d+)\b",
        "subject first",
    ),
    "object first": Habit(
        r"^(?:And |But )?(?:That|These|Those|This|Such|All this) (?:we|you|they|I|nobody) [a-z]+", "subject first"
    ),
    "of which": Habit(
        r"\bof which [a-z]+ (?:is|are|was|were)\b|(?:^|[,;:] )of (?:that|this|those|these|all)\b[^,.;:]*,? "
        r"(?:the one|is|are|was|were)\b",
        "subject first",
    ),
    "inverted if": Habit(r"^(?:Were|Had|Should) (?:it|the|they|we|you|this|that|an?)\b[^?]*$", "if it were"),
    "who does": Habit(r"^Who(?:ever)? [^?]*$", "somebody who …, or you"),
    "is to be": Habit(r"(?<!\bthat )\b(?:is|are|was|were) (?:not |now |still )?to be \w+", "must be, can be"),
    "for it": Habit(r", for (?:it|they|we|you|there)\b", "because"),
    "the one, the other": Habit(r"\bthe one\b(?! that| which| to| in| of)[^.]*\bthe other\b(?! \w)", "name both"),
    "the latter": Habit(r"\bthe (?:former|latter)\b", "name it"),
    "that is": Habit(r", that is, .*, ", "a remark inside a remark: two sentences"),
    "as far as": Habit(r"\bas far as\b.*\b(?:shows|says|tells) it\b", "say what is uncertain"),
    "that that": Habit(r"\bthat that\b", "leave one out"),
}


def prose(markdown: str) -> str:
    """Markdown without what nobody reads as a sentence: code, formulas, pictures, tags, lists of papers."""
    text = re.sub(r"^#+ Further reading.*?(?=^#|^\*\*Next|\Z)", "", markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"```.*?```|<small>.*?</small>|<summary>.*?</summary>", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " formula ", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$\n]+\$|`[^`\n]+`", "Term", text)
    text = re.sub(r"\[?!\[[^]]*\]\([^)]*\)(?:\]\([^)]*\))?", " ", text)  # pictures and badges
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = REFERENCE.sub("", text)
    return re.sub(r"<[^>]+>", " ", text)


def sentences(markdown: str) -> Iterator[str]:
    """The sentences of four words or more, each on one line, without marks of emphasis."""
    for block in re.split(r"\n\s*\n|\n\s*[-*] |\n\s*\d+\. |(?:^|\n)#+ [^\n]*|\n\|[-| :]*\n|\|", prose(markdown)):
        block = re.sub(r"\s+", " ", re.sub(r"[*_#]|^\s*> ", "", block)).strip()
        ends = re.sub(r"(?<!\bal)(?<!e\.g)(?<!i\.e)([.!?…][)”\"]*) +(?=[(“\"A-ZÀ-Ž])", r"\1\n", block)
        yield from (sentence for sentence in ends.split("\n") if len(WORD.findall(sentence)) > 3)


def words_before_the_subject(sentence: str) -> int:
    """The length of the adverbial that a sentence begins with; 0 where it begins otherwise."""
    opening, comma, _ = re.sub(r"\([^)]*\)", "", sentence).partition(",")
    subject = re.search(SUBJECT, opening)
    if re.match(PREPOSITION, opening) and subject:
        return len(WORD.findall(opening[: subject.end()]))
    adverbial = re.match(f"{PREPOSITION}|{SUBORDINATE}", opening) and comma and not re.search("[;:]", opening)
    return len(WORD.findall(opening)) if adverbial else 0


def reasons(sentence: str) -> Iterator[str]:
    """What may stop a reader in this sentence."""
    words = len(WORD.findall(sentence))
    if words > LONG:
        yield f"{words} words"
    late = words_before_the_subject(sentence)
    if late > LATE:
        yield f"{late} words before the subject"
    if len(re.findall(CLAUSE, sentence)) >= CLAUSES and words > LONG // 2:
        yield "clause in clause"
    asides = [len(WORD.findall(aside)) for aside in re.findall(r"\(([^()]*)\)", sentence)]
    if sum(aside > 2 for aside in asides) > 1:
        yield "two remarks in brackets"
    elif max(asides, default=0) >= ASIDE:
        yield f"{max(asides)} words in brackets: say them outside, or not at all"
    for name, habit in HABITS.items():
        if re.search(habit.pattern, sentence, re.IGNORECASE):
            yield f"“{name}”: {habit.cure}"


def cells(path: Path) -> Iterator[tuple[str, str]]:
    """Where, and the Markdown there: each cell of a notebook, or the whole of another file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        yield path.name, text
        return
    for number, cell in enumerate(json.loads(text)["cells"]):
        if cell["cell_type"] == "markdown":
            yield f"{path.name}[{number}]", "".join(cell["source"])


def places(path: Path) -> list[tuple[str, str, list[str]]]:
    """Every sentence of a file: where it stands, the sentence, and what may stop a reader in it."""
    return [(where, s, list(reasons(s))) for where, text in cells(path) for s in sentences(text)]


def share(path: Path) -> float:
    """How many sentences in a hundred are worth a look."""
    read = places(path)
    return 100 * sum(bool(why) for *_, why in read) / max(1, len(read))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", action="store_true", help="how many sentences in a hundred, file by file")
    parser.add_argument("files", nargs="*", type=Path, help="notebooks or Markdown (README.md and all notebooks)")
    given, notebooks = parser.parse_args(words), ROOT / "notebooks"
    files = given.files or [ROOT / "README.md", *sorted(notebooks.glob("*.ipynb")), *sorted(notebooks.glob("*.md"))]
    for path in files:
        if given.share:
            print(f"{path.name:32} {share(path):5.1f} % of {len(places(path)):4} sentences")
            continue
        for where, sentence, why in places(path):
            if why:
                print(f"{where}: {'; '.join(why)}: {sentence}")


if __name__ == "__main__":
    main()
