import type { Room } from "@hubbub/server/protocol";
import { expect, test } from "vitest";
import { closedAt, meet, slowIn } from "./room.ts";

const listed: Room = {
  id: "7",
  kind: "open",
  names: ["Kitchen"],
  private: false,
  last: null,
  seq: 0,
  read: 0,
  unread: 0,
};

test("nobody writes in an archived room, nor somebody muted until the mute ends; slow mode is for members", () => {
  const room = meet(undefined, { ...listed, role: "member", mutedUntil: 2_000, slow: 10 });
  expect(closedAt(room, 1_999)).toEqual({ why: "muted", until: 2_000 });
  expect(closedAt(room, 2_000)).toBeNull();
  expect(slowIn(room)).toBe(10);
  const archived = meet(room, { ...listed, role: "moderator", archived: 5, slow: 10 });
  expect(closedAt(archived, 2_000)).toEqual({ why: "archived" });
  expect(slowIn(archived)).toBe(0);
});
