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
  [{ what: "account", userId: "2", detail: '{"disabled":true}' }, "ann disabled the account of ben."],
  [
    { what: "account", userId: "2", detail: '{"disabled":false}', refused: true as const },
    "ann tried to enable the account of ben.",
  ],
  [{ what: "account", userId: "2", detail: '{"role":"admin"}' }, "ann made ben admin of the server."],
  [
    { what: "account", userId: "2", detail: '{"role":"user"}', by: "" },
    "The operator made ben an ordinary user.",
  ],
  [{ what: "account", userId: "2", detail: "deleted" }, "ann deleted the account of ben."],
  [{ what: "account", userId: "1", detail: "deleted by its owner" }, "ann deleted their account."],
  [
    { what: "account", userId: "2", detail: "a link for a new password" },
    "ann made a link with which ben chooses a new password.",
  ],
  [
    { what: "account", userId: "1", detail: "a new password by a link" },
    "ann chose a new password by an admin's link.",
  ],
  [{ what: "account", userId: "2", detail: "sessions ended" }, "ann ended the sessions of ben."],
  [
    { what: "server settings", detail: "signup, words" },
    "ann changed who can sign up and the filtered words.",
  ],
  [{ what: "demo", detail: "removed", by: "" }, "The operator removed the demo data."],
  [{ what: "new thing", detail: "x" }, "ann changed new thing (x)."],
])("an entry of the log is told in words: %j", (part, words) => {
  expect(wordsOfEntry({ ...entry, ...part }, nameOf)).toBe(words);
});
