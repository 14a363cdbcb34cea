import { expect, test } from "vitest";
import { wordsOfEntry } from "./entries.ts";

const nameOf = (id: string) => (id === "1" ? "ann" : "ben");
const entry = { id: "1-0", at: 0, by: "1", roomId: "7" };

test.each([
  [{ what: "ban", userId: "2" }, "ann banned ben."],
  [{ what: "ban", userId: "2", detail: "lifted" }, "ann lifted the ban of ben."],
  [{ what: "role", userId: "2", detail: '{"role":"moderator"}' }, "ann made ben moderator."],
  [{ what: "mute", userId: "2", detail: '{"mutedUntil":0}' }, "ann unmuted ben."],
  [
    { what: "settings", detail: '{"topic":"Tea","slow":10}' },
    "ann set the topic to “Tea”, set slow mode to 10 seconds.",
  ],
  [
    { what: "settings", detail: '{"archived":true}', refused: true as const },
    "ann tried to archive the room.",
  ],
  [{ what: "settings", detail: "{" }, "ann changed the settings."],
  [{ what: "review", seq: 3, by: "" }, "The operator closed the report of message 3."],
  [{ what: "new thing", detail: "x" }, "ann changed new thing (x)."],
])("an entry of the log is told in words: %j", (part, words) => {
  expect(wordsOfEntry({ ...entry, ...part }, nameOf)).toBe(words);
});
