import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ROOM_ROLES,
  type Failure,
  type Reply,
  type Room,
  type RoomKind,
  type Standing,
} from "../protocol.ts";
import { both, person, replicas, unwrap, type House, type Person } from "../testing.ts";
import { may, mayActOn, RIGHTS, type Action, type Situation } from "./access.ts";

const ACTIONS = Object.keys(RIGHTS) as Action[];
const KINDS: RoomKind[] = ["everyone", "open", "invite", "direct"];
const situation = (more: Partial<Situation>): Situation => ({
  kind: "open",
  standing: { role: "member" },
  server: "user",
  now: 1_000,
  ...more,
});

describe("the table of rights", () => {
  it("hides a room from everybody who is not in it, whatever they want there", () => {
    for (const action of ACTIONS)
      for (const kind of KINDS) expect(may(action, situation({ kind, standing: null }))).toBe("not_found");
  });

  it("gives nobody a right in a private room that its two people do not have", () => {
    for (const action of ACTIONS)
      for (const server of ["admin", "owner"] as const) {
        expect(may(action, situation({ kind: "direct", standing: null, server }))).toBe("not_found");
        expect(may(action, situation({ kind: "direct", server }))).toBe(
          may(action, situation({ kind: "direct" })),
        );
      }
  });

  it("gives whoever has the greater role every right of the lesser one", () => {
    for (const action of ACTIONS)
      for (const kind of KINDS) {
        const allowed = ROOM_ROLES.map(
          (role) => may(action, situation({ kind, standing: { role } })) === null,
        );
        expect(allowed).toEqual(allowed.toSorted((one, other) => Number(one) - Number(other)));
      }
  });

  it("lets nobody write to an archived room, or while they are muted", () => {
    for (const action of ["send", "edit", "react", "pin", "type"] as const)
      for (const role of ROOM_ROLES) {
        expect(may(action, situation({ standing: { role }, archived: true }))).toBe("archived");
        expect(may(action, situation({ standing: { role, mutedUntil: 1_001 } }))).toBe("muted");
        expect(may(action, situation({ standing: { role, mutedUntil: 1_000 } }))).toBe(null);
      }
  });

  it("lets nobody but owners act on somebody who stands as high", () => {
    for (const role of ROOM_ROLES)
      for (const target of ROOM_ROLES)
        expect(mayActOn(ROOM_ROLES, role, target)).toBe(
          role === "owner" || ROOM_ROLES.indexOf(role) > ROOM_ROLES.indexOf(target),
        );
  });
});

/** Who asks: what they are in the room, or nothing, and on the server. */
const ASKERS = {
  stranger: { standing: null, server: "user" },
  banned: { standing: null, server: "user" },
  member: { standing: { role: "member" }, server: "user" },
  muted: { standing: { role: "member", mutedUntil: Infinity }, server: "user" },
  moderator: { standing: { role: "moderator" }, server: "user" },
  owner: { standing: { role: "owner" }, server: "user" },
  admin: { standing: null, server: "admin" },
} as const satisfies Record<string, { standing: Standing | null; server: Situation["server"] }>;
type Asker = keyof typeof ASKERS;

/** What each action is at the doors, in a room that nobody else uses. `at`: a message of somebody else, and an own one. */
type Scene = { room: Room; asker: Person; target: Person; theirs: number; own: number };
type Outcome = Promise<string>;

async function rest({ asker }: Scene, method: string, path: string, body?: object): Outcome {
  const answer = await asker.browser.fetch<Failure>(method, `/api/rooms/${path}`, body);
  return answer.status < 300 ? "done" : answer.body.code;
}

async function event({ asker: { socket } }: Scene, name: string, body: object): Outcome {
  const { emitWithAck } = socket as unknown as {
    emitWithAck: (this: typeof socket, name: string, body: object) => Promise<Reply<unknown>>;
  };
  const reply = await emitWithAck.call(socket, name, body);
  return reply.ok ? "done" : reply.error.code;
}

const DONE: Record<Exclude<Action, "invite" | "report" | "review">, ((scene: Scene) => Outcome)[]> = {
  read: [
    (scene) => rest(scene, "GET", `${scene.room.id}/messages`),
    // Another spelling of the same takes the way through Express.
    (scene) => rest(scene, "GET", `${scene.room.id}/messages/?size=1`),
    (scene) => rest(scene, "GET", `${scene.room.id}/transcript`),
  ],
  send: [(scene) => event(scene, "message", { roomId: scene.room.id, message: "hi", nonce: "send" })],
  edit: [
    (scene) =>
      event(scene, "message.edit", {
        roomId: scene.room.id,
        seq: scene.own,
        message: "b",
        rev: 0,
        nonce: "e",
      }),
  ],
  react: [
    (scene) =>
      event(scene, "message.react", { roomId: scene.room.id, seq: scene.theirs, emoji: "👍", on: true }),
  ],
  pin: [(scene) => event(scene, "message.pin", { roomId: scene.room.id, seq: scene.theirs, on: true })],
  type: [(scene) => event(scene, "typing", { roomId: scene.room.id })],
  delete: [(scene) => event(scene, "message.delete", { roomId: scene.room.id, seq: scene.own })],
  "delete.others": [(scene) => event(scene, "message.delete", { roomId: scene.room.id, seq: scene.theirs })],
  leave: [
    (scene) => event(scene, "room.leave", { roomId: scene.room.id }),
    (scene) => rest(scene, "DELETE", `${scene.room.id}/members/${scene.asker.user.id}`),
  ],
  members: [(scene) => rest(scene, "GET", `${scene.room.id}/members`)],
  settings: [(scene) => rest(scene, "PATCH", scene.room.id, { topic: "t", slow: 0 })],
  name: [(scene) => rest(scene, "PATCH", scene.room.id, { name: `renamed ${scene.room.id}` })],
  kind: [(scene) => rest(scene, "PATCH", scene.room.id, { kind: scene.room.kind })],
  archive: [(scene) => rest(scene, "PATCH", scene.room.id, { archived: false })],
  add: [(scene) => rest(scene, "PUT", `${scene.room.id}/members/${scene.target.user.id}`, {})],
  remove: [(scene) => rest(scene, "DELETE", `${scene.room.id}/members/${scene.target.user.id}`)],
  ban: [
    (scene) => rest(scene, "PUT", `${scene.room.id}/bans/${scene.target.user.id}`, { until: 1 }),
    (scene) => rest(scene, "GET", `${scene.room.id}/bans`),
  ],
  mute: [
    (scene) => rest(scene, "PUT", `${scene.room.id}/members/${scene.target.user.id}`, { mutedUntil: 0 }),
  ],
  role: [
    (scene) => rest(scene, "PUT", `${scene.room.id}/members/${scene.target.user.id}`, { role: "moderator" }),
  ],
};

describe("the doors", { timeout: 300_000 }, () => {
  let house: House;
  let maker: Person;
  let target: Person;
  let askers: Record<Asker, Person>;
  let rooms = 0;
  beforeAll(async () => {
    house = await replicas(2);
    const [left, right] = both(house);
    maker = await person(left, "maker");
    target = await person(right, "target");
    const people: [string, Person][] = [];
    for (const name of Object.keys(ASKERS)) people.push([name, await person(right, `the-${name}`)]);
    askers = Object.fromEntries(people) as Record<Asker, Person>;
    await house.redis.hset(house.keys.user(askers.admin.user.id), "role", "admin");
  });
  afterAll(() => house.close());

  async function set(room: Room, method: string, path: string, body?: object): Promise<void> {
    const { status } = await maker.browser.fetch(method, `/api/rooms/${room.id}/${path}`, body);
    expect(status).toBeLessThan(300);
  }

  async function stage(
    name: Asker,
    kind: "open" | "invite",
    archived: boolean,
    action: Action,
  ): Promise<Scene> {
    const asker = askers[name];
    const made = await maker.browser.post<Room>("/api/rooms", { name: `scene ${(rooms += 1)}`, kind });
    const room = made.body;
    const { id } = room;
    const { standing } = ASKERS[name];
    const theirs = (await maker.say(id, "theirs")).seq;
    let own = theirs;
    if (action !== "add") await set(room, "PUT", `members/${target.user.id}`, {});
    if (standing) {
      await set(room, "PUT", `members/${asker.user.id}`, { role: standing.role });
      own = (await asker.say(id, "own")).seq;
      if (name === "muted") await set(room, "PUT", `members/${asker.user.id}`, { mutedUntil: 8e15 });
      // The connection hears the room only a moment later, and being shown as typing asks for that.
      await expect.poll(() => event({ asker } as Scene, "typing", { roomId: id })).not.toBe("not_found");
    }
    if (name === "banned") await set(room, "PUT", `bans/${asker.user.id}`, {});
    if (archived) unwrapRest(await maker.browser.fetch("PATCH", `/api/rooms/${id}`, { archived: true }));
    return { room, asker, target, theirs, own };
  }

  it.each(Object.keys(ASKERS) as Asker[])("give %s every right of the table and no other", async (name) => {
    for (const kind of ["open", "invite"] as const)
      for (const archived of [false, true])
        for (const [action, ways] of Object.entries(DONE) as [keyof typeof DONE, (typeof DONE)["read"]][])
          for (const way of ways) {
            const scene = await stage(name, kind, archived, action);
            // Who is not in a room has no message of their own there.
            const isOthers = action === "delete" && scene.own === scene.theirs;
            const asked = isOthers ? "delete.others" : action;
            const expected = may(asked, { ...ASKERS[name], kind, archived, now: Date.now() }) ?? "done";
            const outcome = await way(scene);
            expect(outcome, `${action} by ${name} in ${kind}${archived ? ", archived" : ""}`).toBe(expected);
          }
  });

  it("store nothing that the table refuses", async () => {
    const { redis, keys } = house;
    const { room, asker } = await stage("member", "open", false, "role");
    const before = await Promise.all([
      redis.hgetall(keys.meta(room.id)),
      redis.hgetall(keys.records(room.id)),
      redis.hgetall(keys.bans(room.id)),
      redis.zrange(keys.room(room.id), "0", "-1"),
    ]);
    for (const action of [
      "delete.others",
      "settings",
      "name",
      "kind",
      "archive",
      "remove",
      "ban",
      "mute",
      "role",
    ] as const)
      for (const way of DONE[action]) await way({ room, asker, target, theirs: 1, own: 2 });
    const after = await Promise.all([
      redis.hgetall(keys.meta(room.id)),
      redis.hgetall(keys.records(room.id)),
      redis.hgetall(keys.bans(room.id)),
      redis.zrange(keys.room(room.id), "0", "-1"),
    ]);
    expect(after).toEqual(before);
  });

  function unwrapRest({ status }: { status: number }): void {
    expect(status).toBe(200);
  }

  it("answer a message that is changed by nobody's right as it was", async () => {
    const { room, asker, theirs } = await stage("member", "open", false, "read");
    const reply = await asker.socket.emitWithAck("message.delete", {
      roomId: room.id,
      seq: theirs,
    });
    expect(() => unwrap(reply)).toThrow("forbidden");
  });
});
