"""The picture of the demo: it is XML, says what was recorded, and refuses what proves nothing."""

import json
import unittest
import xml.etree.ElementTree as ElementTree

from docs import demo_picture

EVENTS = [
    {"event": "begins", "conversation": "fox", "actor": 0, "text": "A young <fox> & co"},
    {"event": "begins", "conversation": "bell", "actor": 1, "text": "An old bell"},
    {"ms": 10, "event": "token", "conversation": "fox", "text": " ran\n"},
    {"ms": 20, "event": "died", "actor": 0},
    {"ms": 30, "event": "token", "conversation": "bell", "text": " rang"},
    {"ms": 40, "event": "ready", "actor": 0},
    {"ms": 50, "event": "goes_on", "conversation": "fox"},
    {"ms": 50, "event": "token", "conversation": "fox", "text": "\n off."},
    {"ms": 60, "event": "words", "conversation": "fox", "text": " In the end,"},
    {"event": "equal"},
]


def lines(events):
    return [json.dumps(event) + "\n" for event in events]


def without(name):
    return lines(event for event in EVENTS if event["event"] != name)


class DemoPicture(unittest.TestCase):
    def test_a_recording_becomes_xml_that_says_it_all(self):
        recording = demo_picture.read(lines(EVENTS))
        svg = demo_picture.Picture(recording).draw()
        self.assertEqual(svg, demo_picture.Picture(recording).draw())
        texts = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("A young <fox> & co ran off. In the end,", texts)
        self.assertIn("killed, started again after 20 ms", texts)
        self.assertTrue(any("conversations paused for 30 ms" in text for text in texts), texts)
        self.assertIn("All 3 tokens are the same as without the kill.", texts)

    def test_times_of_each_animation_grow_from_0_to_at_most_1(self):
        svg = demo_picture.Picture(demo_picture.read(lines(EVENTS))).draw()
        for animation in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}animate"):
            times = [float(time) for time in animation.get("keyTimes").split(";")]
            self.assertEqual(times, sorted(set(times)), animation.attrib)
            self.assertEqual(times[0], 0)
            self.assertLessEqual(times[-1], 1)
            self.assertEqual(len(times), len(animation.get("values").split(";")))

    def test_what_was_said_after_the_death_has_another_colour(self):
        (fox, _) = demo_picture.read(lines(EVENTS)).stories
        kinds = [letter.kind for letter in fox.letters]
        self.assertEqual([kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind],
                         ["words", "said", "after", "words"])

    def test_lines_hold_whole_words_or_cut_those_that_are_too_long(self):
        def wrapped(text):
            story = demo_picture.Story("a", 0)
            story.add(text, 0, "said")
            return ["".join(letter.text for letter in line) for line in demo_picture.wrap(story.letters, 6)]

        self.assertEqual(wrapped("one two three"), ["one", "two", "three"])
        self.assertEqual(wrapped("a b c d"), ["a b c", "d"])
        self.assertEqual(wrapped("abcdefghij k"), ["abcdef", "ghij k"])

    def test_a_recording_that_proves_nothing_is_refused(self):
        for lacking in ["died", "ready", "goes_on", "equal"]:
            with self.assertRaises(ValueError, msg=lacking):
                demo_picture.read(without(lacking))


if __name__ == "__main__":
    unittest.main()
