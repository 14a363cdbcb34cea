import { LIMITS, type Message, type Page, type Room, type RoomId, type User } from "@hubbub/server/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  PATIENCE_MS,
  both,
  Browser,
  person,
  replicas,
  startWire,
  until,
  unwrap,
  type House,
  type Person,
} from "../../../server/src/testing.ts";
import { account } from "./account.ts";
import { createChatClient, type ChatClient } from "./chat.ts";
import { threadSlot } from "./drafts.ts";
import { createProfile, headlessWorld, type Profile } from "./headless.ts";
import { UNDO_MS } from "./outbox.ts";
import { asChanged } from "./state/outgoing.ts";
import { doubt } from "./state/revisions.ts";
import { mentionsOf, unreadOf } from "./state/room.ts";
import { systemClock, type Clock, type World } from "./world.ts";

let house: House;
beforeAll(async () => {
  house = await replicas(2);
});
afterAll(() => house.close());

const PASSWORD = "correct horse";
let names = 0;
const name = () => `tab${(names += 1)}`;

/** A clock that knows its pending timers. */
function countingClock(): Clock & { waiting: Set<string> } {
  const waiting = new Set<string>();
  let timers = 0;
  return {
    ...systemClock,
    waiting,
    after(ms, go) {
      const what = `${(timers += 1)}: ${go.name || go.toString()}`;
      waiting.add(what);
      const cancel = systemClock.after(ms, () => {
        waiting.delete(what);
        go();
      });
      return () => {
        waiting.delete(what);
        cancel();
      };
    },
  };
}

/** A tab at a replica's address. `part` replaces parts of its World. */
function openTab(
  profile: Profile = createProfile(),
  address = both(house)[0].address,
  part: (world: World) => Partial<World> = () => ({}),
) {
  const world = headlessWorld(address, profile);
  const clock = countingClock();
  const given = { ...world, clock };
  const chat = createChatClient({ ...given, ...part(given) });
  const texts = (roomId = "0") =>
    chat
      .snapshot()
      .rooms?.get(roomId)
      ?.log?.messages.map(({ message }) => message);
  return {
    chat,
    profile,
    clock,
    wire: world.wire,
    back: world.back,
    leave: world.leave,
    texts,
    say(text: string, roomId = "0") {
      chat.setDraft(roomId, text);
      chat.send(roomId);
    },
    online: () => until(() => chat.snapshot().connection === "online", PATIENCE_MS, "the connection"),
    shows: (text: string, roomId = "0") =>
      until(() => texts(roomId)?.includes(text), PATIENCE_MS, `"${text}" to be shown`),
    async signUp(username = name()) {
      chat.openRoom("0");
      await chat.signUp(username, PASSWORD);
      await this.online();
      await until(() => texts() !== undefined, PATIENCE_MS, "General");
      return username;
    },
  };
}

/** A World's `connect` whose requests are made by `answer`: `ask` makes one, and answers what the server does. */
function asking(
  world: World,
  answer: (ask: () => Promise<unknown>, event: string, body: unknown) => Promise<unknown>,
): World["connect"] {
  return (options) => {
    const wire = world.connect(options);
    const timeout = wire.timeout.bind(wire);
    wire.timeout = (ms) => {
      const timed = timeout(ms);
      const emit = timed.emitWithAck.bind(timed);
      timed.emitWithAck = async (...asked) => {
        const ask = (): Promise<unknown> => Reflect.apply(emit, undefined, asked);
        return (await answer(ask, asked[0], asked[1])) as never;
      };
      return timed;
    };
    return wire;
  };
}

/** Another person, on the other replica. */
const somebody = () => person(both(house)[1], name());

/** Signs a tab up and shows it a new room, with somebody else in it. */
async function caveOf(tab: Pick<ReturnType<typeof openTab>, "chat" | "signUp">) {
  await tab.signUp();
  const cave = await tab.chat.createRoom({ name: `Cave of ${name()}` });
  tab.chat.openBeside([cave]);
  const other = await somebody();
  unwrap(await other.socket.emitWithAck("room.join", { roomId: cave }));
  return { cave, other };
}

/** A wire to the first replica that can be cut and restored. */
async function startLine() {
  let down = false;
  const { port } = new URL(both(house)[0].address);
  const wire = await startWire(`redis://127.0.0.1:${port}`, (chunk) => (down ? null : chunk));
  return {
    address: wire.url.replace("redis:", "http:"),
    take() {
      down = true;
      wire.cut();
    },
    giveBack() {
      down = false;
    },
    close: wire.close,
  };
}

describe("a client without a browser", () => {
  test("exchanges messages with another replica", async () => {
    const [one, other] = [openTab(), openTab(undefined, both(house)[1].address)];
    await Promise.all([one.signUp(), other.signUp()]);
    one.say("is anybody there");
    await other.shows("is anybody there");
    other.say("I am");
    await one.shows("I am");
    await until(() => one.chat.snapshot().outgoing.length === 0);
    expect(one.texts()).toEqual(other.texts());
    one.chat.close();
    other.chat.close();
  });

  test("goes to a message of a room once it has joined it", async () => {
    const tab = openTab();
    await tab.signUp();
    const other = await somebody();
    const { id } = await other.makes({ name: `Linked ${name()}`, kind: "open" });
    for (let at = 0; at < 60; at += 1) await other.say(id, `linked ${at}`);
    tab.chat.openRoom(id, 3);
    // Of two requests the first is answered first.
    await expect(tab.chat.seqAt(id, 0)).rejects.toThrow();
    expect(tab.chat.snapshot().visit?.is).toBe("wanted");
    await tab.chat.joinRoom(id);
    await until(() => ["apart", "joined"].includes(tab.chat.snapshot().visit?.is ?? ""));
    tab.chat.openRoom(id, 4_711);
    await until(() => tab.chat.snapshot().visit?.is === "missing");
    tab.chat.close();
  });

  test("shows the messages of a room that it looks at once somebody lets it in, also after it was removed", async () => {
    const owner = await person(both(house)[1]);
    const room = await owner.makes({ name: name(), kind: "invite" });
    await owner.say(room.id, "inside");
    const tab = openTab();
    await tab.signUp();
    const { session } = tab.chat.snapshot();
    const id = session.is === "signed in" ? session.user.id : "";
    const isIn = () => tab.chat.snapshot().rooms?.has(room.id) === true;
    tab.chat.openRoom(room.id);
    for (const time of ["first", "second"]) {
      await owner.browser.fetch("PUT", `/api/rooms/${room.id}/members/${id}`, {});
      await tab.shows("inside", room.id);
      await owner.browser.fetch("DELETE", `/api/rooms/${room.id}/members/${id}`);
      await until(() => !isIn(), PATIENCE_MS, `to be removed for the ${time} time`);
    }
    tab.chat.close();
    owner.close();
  });

  test("knows the names of people who are mentioned in an old message that it goes to", async () => {
    const tab = openTab();
    const { cave, other } = await caveOf(tab);
    // Whoever was online is known.
    const offline = new Browser(both(house)[0]);
    const { body: mentioned } = await offline.post<User>("/api/users", {
      username: name(),
      password: PASSWORD,
    });
    const hers = await other.say(cave, `@${mentioned.username} is not here`);
    for (let at = 0; at < LIMITS.page; at += 1) await other.say(cave, `later ${at}`);
    const seen = openTab(tab.profile);
    await seen.chat.start();
    await seen.online();
    const knows = () => seen.chat.snapshot().users.get(mentioned.id)?.username;
    await until(() => seen.chat.snapshot().rooms?.get(cave) !== undefined);
    expect(knows()).toBeUndefined();
    seen.chat.openRoom(cave, hers.seq);
    await until(() => knows() === mentioned.username, PATIENCE_MS, "the name");
    for (const one of [tab, seen]) one.chat.close();
    other.close();
  });

  test("shows what it hears of a room while an older list of rooms is on its way", async () => {
    let hold = false;
    const held: (() => void)[] = [];
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      async fetch(path, init) {
        const response = await fetch(path, init);
        if (!hold || path !== "/api/rooms") return response;
        const list = await response.text();
        await new Promise<void>((go) => held.push(go));
        return new Response(list);
      },
    }));
    const { cave, other } = await caveOf(tab);
    await tab.chat.call()("PUT", `/rooms/${cave}/members/${other.user.id}`, { role: "owner" });
    const { session } = tab.chat.snapshot();
    const id = session.is === "signed in" ? session.user.id : "";
    const shown = () => {
      const room = tab.chat.snapshot().rooms?.get(cave);
      return [room?.standing.role, room?.settings.topic];
    };
    hold = true;
    tab.wire()?.io.engine.close();
    await until(() => held.length > 0, PATIENCE_MS, "the list");
    await other.browser.fetch("PUT", `/api/rooms/${cave}/members/${id}`, { role: "member" });
    await other.browser.fetch("PATCH", `/api/rooms/${cave}`, { topic: "Stones" });
    await until(() => shown()[0] === "member" && shown()[1] === "Stones", PATIENCE_MS, "the news");
    hold = false;
    for (const go of held) go();
    await tab.online();
    expect(shown()).toEqual(["member", "Stones"]);
    tab.chat.close();
    other.close();
  });

  test("catches up after a lost connection, and sends what it wrote meanwhile", async () => {
    const tab = openTab();
    await tab.signUp();
    const other = await somebody();
    tab.wire()?.io.engine.close();
    await until(() => tab.chat.snapshot().connection !== "online");
    tab.say("written without a connection");
    await other.say("0", "said meanwhile");
    await tab.shows("said meanwhile");
    expect((await other.hears("written without a connection", PATIENCE_MS)).from).not.toBe(other.user.id);
    await tab.online();
    tab.chat.close();
    other.close();
  });

  test("sends what an earlier client of the same storage left unsent", async () => {
    const first = openTab();
    await first.signUp();
    const other = await somebody();
    first.wire()?.io.engine.close();
    await until(() => first.chat.snapshot().connection !== "online");
    first.say("said before the page was closed");
    first.chat.setDraft("0", "half a thought");
    first.chat.close();
    const second = openTab(first.profile, both(house)[1].address);
    second.chat.openRoom("0");
    await second.chat.start();
    expect(second.chat.snapshot().drafts.get("0")).toBe("half a thought");
    await other.hears("said before the page was closed", PATIENCE_MS);
    await second.shows("said before the page was closed");
    expect(second.texts()?.filter((text) => text === "said before the page was closed")).toHaveLength(1);
    second.chat.close();
    other.close();
  });

  test("is signed out in all tabs by a log-out in one, and keeps nothing", async () => {
    const one = openTab();
    await one.signUp();
    const second = openTab(one.profile, both(house)[1].address);
    await second.chat.start();
    await second.online();
    second.chat.setDraft("0", "half a thought");
    one.chat.setDraft("1", "another one");
    one.say("x".repeat(4_001));
    await until(() => one.chat.snapshot().outgoing.some((entry) => entry.state === "failed"));
    await one.chat.logOut();
    expect(one.chat.snapshot().session).toEqual({ is: "signed out", reason: null, username: null });
    await until(() => second.chat.snapshot().session.is === "signed out");
    expect([...one.profile.drafts]).toEqual([]);
    await until(() => [...one.profile.outboxes.values()].every((kept) => kept.size === 0));
    for (const tab of [one, second]) {
      expect(tab.chat.snapshot()).toMatchObject({
        rooms: null,
        outgoing: [],
        users: new Map(),
        drafts: new Map(),
      });
      expect([...tab.clock.waiting]).toEqual([]);
    }
    const third = openTab(one.profile);
    await third.chat.start();
    expect(third.chat.snapshot().session.is).toBe("signed out");
  });

  test("keeps no draft after a log-out, even if the connection's end is heard before the answer", async () => {
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      async fetch(path, init) {
        const response = await fetch(path, init);
        if (path === "/api/logout") await until(() => tab.wire()?.connected === false);
        return response;
      },
    }));
    await tab.signUp();
    tab.chat.setDraft("0", "half a thought");
    await tab.chat.logOut();
    expect(tab.chat.snapshot().session).toEqual({ is: "signed out", reason: null, username: null });
    expect([...tab.profile.drafts]).toEqual([]);
  });

  test.each<[string, (chat: ChatClient) => Promise<void>]>([
    ["a log-out", (chat) => chat.logOut()],
    ["the deletion of the account", (chat) => chat.deleteAccount({ password: PASSWORD, messages: "keep" })],
  ])("is signed out in all tabs by %s whose answer is lost, and keeps nothing", async (_, leave) => {
    let isOver = false;
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      async fetch(path, init) {
        const response = await fetch(path, init);
        if (response.status === 401) isOver = true;
        if (path !== "/api/logout" && init.method !== "DELETE") return response;
        await until(() => isOver, PATIENCE_MS, "the end of the session to be heard");
        // The client hears of the answer a moment after this does.
        await new Promise((resolve) => setTimeout(resolve, 100));
        throw new TypeError("The network has changed");
      },
    }));
    await tab.signUp();
    const second = openTab(tab.profile, both(house)[1].address);
    await second.chat.start();
    await second.online();
    tab.chat.setDraft("0", "half a thought");
    await leave(tab.chat);
    for (const { chat } of [tab, second]) await until(() => chat.snapshot().session.is === "signed out");
    expect([...tab.profile.drafts]).toEqual([]);
    for (const { clock } of [tab, second]) expect([...clock.waiting]).toEqual([]);
  });

  test("is told that the account is not deleted, and keeps the texts, if the session had ended before", async () => {
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      async fetch(path, init) {
        if (path === "/api/me" && init.method === "DELETE")
          await fetch("/api/logout", { ...init, method: "POST" });
        return fetch(path, init);
      },
    }));
    await tab.signUp();
    tab.chat.setDraft("0", "half a thought");
    await expect(tab.chat.deleteAccount({ password: PASSWORD, messages: "keep" })).rejects.toThrow();
    await until(() => tab.chat.snapshot().session.is === "signed out");
    expect([...tab.profile.drafts]).not.toEqual([]);
  });

  test("is signed out by a second log-out if the answer to the first was lost, and keeps nothing", async () => {
    let isLost = false;
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      // The connection is not tried again meanwhile.
      random: () => 30,
      async fetch(path, init) {
        if (isLost && path === "/api/me") throw new TypeError("The network has changed");
        const response = await fetch(path, init);
        if (isLost || path !== "/api/logout") return response;
        isLost = true;
        throw new TypeError("The network has changed");
      },
    }));
    await tab.signUp();
    tab.chat.setDraft("0", "half a thought");
    await expect(tab.chat.logOut()).rejects.toMatchObject({ code: "unreachable" });
    expect(tab.chat.snapshot().session.is).toBe("signed in");
    await tab.chat.logOut();
    expect(tab.chat.snapshot().session.is).toBe("signed out");
    expect([...tab.profile.drafts]).toEqual([]);
    expect([...tab.clock.waiting]).toEqual([]);
  });

  test("is signed out as its user wished if they ask for it twice", async () => {
    let asked = 0;
    let answered = 0;
    let before: Promise<unknown> = Promise.resolve();
    const tab = openTab(undefined, undefined, ({ fetch, outbox }) => ({
      async fetch(path, init) {
        if (path !== "/api/logout") return fetch(path, init);
        asked += 1;
        const answer = before.then(() => fetch(path, init));
        before = answer;
        return answer.finally(() => (answered += 1));
      },
      outbox: (userId) => ({
        ...outbox(userId),
        clear: async () => void (await until(() => answered === asked, PATIENCE_MS, "every answer")),
      }),
    }));
    await tab.signUp();
    await Promise.all([tab.chat.logOut(), tab.chat.logOut()]);
    expect(tab.chat.snapshot().session).toEqual({ is: "signed out", reason: null, username: null });
    expect([...tab.clock.waiting]).toEqual([]);
  });

  test("keeps its texts at the end of the session if another tab was closed during its log-out, and they were written on", async () => {
    let isAsked = false;
    const one = openTab(undefined, undefined, ({ fetch }) => ({
      fetch(path, init) {
        if (path !== "/api/logout") return fetch(path, init);
        isAsked = true;
        return new Promise(() => {});
      },
    }));
    const username = await one.signUp();
    const second = openTab(one.profile, both(house)[1].address);
    second.chat.openRoom("0");
    await second.chat.start();
    await second.online();
    void one.chat.logOut();
    await until(() => isAsked, PATIENCE_MS, "the log-out");
    one.chat.close();
    second.chat.setDraft("0", "half a thought");
    const elsewhere = openTab();
    await elsewhere.chat.logIn(username, PASSWORD);
    await account(elsewhere.chat.call()).endOtherSessions();
    await until(() => second.chat.snapshot().session.is === "signed out", PATIENCE_MS, "the end");
    expect([...one.profile.drafts.values()]).toEqual([expect.stringContaining("half a thought")]);
    elsewhere.chat.close();
  });

  test("learns the names of people whom the server could not tell at first", async () => {
    let refusals = 0;
    let isDown = false;
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      async fetch(path, init) {
        if (!isDown || !path.startsWith("/api/users?ids=")) return fetch(path, init);
        refusals += 1;
        throw new TypeError("The network has changed");
      },
    }));
    await tab.signUp();
    // Whoever is online is known.
    const offline = new Browser(both(house)[0]);
    const credentials = { username: name(), password: PASSWORD };
    const { id, username } = (await offline.post<User>("/api/users", credentials)).body;
    isDown = true;
    tab.chat.learn([id]);
    await until(() => refusals > 0, PATIENCE_MS, "the question");
    isDown = false;
    await until(() => tab.chat.snapshot().users.get(id)?.username === username, PATIENCE_MS, "the name");
    tab.chat.close();
  });

  test("stores a draft once that two tabs send before they hear of each other", async () => {
    const one = openTab();
    await one.signUp();
    one.chat.setDraft("0", "said in both");
    const other = openTab(one.profile, both(house)[1].address, ({ drafts }) => ({
      drafts: { ...drafts, watch: () => () => {} },
    }));
    other.chat.openRoom("0");
    await other.chat.start();
    await other.online();
    for (const { chat } of [one, other]) chat.send("0");
    await until(() => [one, other].every(({ chat }) => chat.snapshot().outgoing.length === 0));
    one.say("and done");
    await other.shows("and done");
    expect(other.texts()?.filter((text) => text === "said in both")).toHaveLength(1);
    for (const { chat } of [one, other]) chat.close();
  });

  test("sends a draft as it was when the user sent it, and keeps what they have typed since", async () => {
    const tab = openTab();
    await tab.signUp();
    tab.chat.setDraft("0", "@room lunch ");
    const was = tab.chat.written("0");
    tab.chat.setDraft("0", "@room lunch and who pays");
    tab.chat.send("0", undefined, was);
    await tab.shows("@room lunch ");
    expect(tab.chat.snapshot().drafts.get("0")).toBe("and who pays");
    const changed = tab.chat.written("0");
    tab.chat.setDraft("0", "what else");
    tab.chat.send("0", undefined, changed);
    await tab.shows("and who pays");
    expect(tab.chat.snapshot().drafts.get("0")).toBe("what else");
    tab.chat.close();
  });

  test("loses nothing if the deletion of the account is refused, and everything in all tabs once it is done", async () => {
    const tab = openTab();
    const username = await tab.signUp();
    const second = openTab(tab.profile, both(house)[1].address);
    second.chat.openRoom("0");
    await second.chat.start();
    await second.online();
    tab.chat.setDraft("0", "half a thought");
    const asked = { password: "not my password", messages: "keep" } as const;
    await expect(tab.chat.deleteAccount(asked)).rejects.toMatchObject({ code: "forbidden" });
    expect(tab.chat.snapshot().session).toMatchObject({ is: "signed in", user: { username } });
    tab.say("still here");
    await second.shows("still here");
    tab.chat.setDraft("0", "half a thought");
    await tab.chat.deleteAccount({ ...asked, password: PASSWORD });
    for (const { chat } of [tab, second]) await until(() => chat.snapshot().session.is === "signed out");
    expect([...tab.profile.drafts]).toEqual([]);
    await expect(tab.chat.logIn(username, PASSWORD)).rejects.toMatchObject({ code: "unauthorized" });
  });

  test("says so if the browser does not keep the cookie of a log-in", async () => {
    const username = await openTab().signUp();
    const { chat } = openTab({ ...createProfile(), cookie: () => "" });
    await chat.logIn(username, PASSWORD);
    await until(() => chat.snapshot().session.is === "signed out", PATIENCE_MS, "the end");
    expect(chat.snapshot().session).toMatchObject({ reason: expect.stringContaining("cookies") as string });
  });

  test("shows a new name and role of its own account, and of no other", async () => {
    const tab = openTab();
    const username = await tab.signUp();
    const { session } = tab.chat.snapshot();
    const id = session.is === "signed in" ? session.user.id : "";
    expect(session).toMatchObject({ isNew: true });
    tab.chat.showMe({ id, username, displayName: "Tab", role: "admin" });
    tab.chat.showMe({ id: "4711", username: "other" });
    const { session: now, users } = tab.chat.snapshot();
    expect(now).toMatchObject({ user: { id, displayName: "Tab", role: "admin" } });
    expect(users.get(id)).toMatchObject({ displayName: "Tab", online: true });
    tab.chat.close();
  });

  test("has no pending work after a log-out, whatever was under way", async () => {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    await tab.signUp();
    const other = await somebody();
    tab.chat.watch("0");
    line.take();
    await until(() => tab.chat.snapshot().connection === "offline", PATIENCE_MS, "the trouble to be told");
    await other.say("0", "said meanwhile");
    line.giveBack();
    tab.back();
    await tab.online();
    // A notice of the return, a delayed read mark and an unanswered message are pending.
    expect(tab.chat.snapshot().returned).toBe(1);
    tab.say("on its way");
    await tab.chat.logOut();
    expect([...tab.clock.waiting]).toEqual([]);
    expect(tab.chat.snapshot()).toMatchObject({ returned: null, outgoing: [] });
    await until(() => [...tab.profile.outboxes.values()].every((kept) => kept.size === 0));
    other.close();
    await line.close();
  });
});

describe("a message that was changed", () => {
  test("is shown in its present state, even if the changes are no longer known", async () => {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    await tab.signUp();
    const other = await somebody();
    const said = await other.say("0", "a tpyo");
    const second = await other.say("0", "another tpyo");
    await tab.shows("another tpyo");
    const edit = async (message: string, { seq, rev = 0 } = said) =>
      unwrap(
        await other.socket.emitWithAck("message.edit", {
          roomId: "0",
          seq,
          message,
          rev,
          nonce: `edit-${seq}-${rev}`,
        }),
      );
    const typo = await edit("a typo");
    await tab.shows("a typo");
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    const better = await edit("a better typo", typo);
    line.giveBack();
    tab.back();
    await tab.shows("a better typo");
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    await edit("the best typo", better);
    await edit("another one", second);
    await house.redis.del(house.keys.revs("0"));
    line.giveBack();
    tab.back();
    await tab.shows("another one");
    await tab.shows("the best typo");
    expect(tab.texts()).not.toContain("another tpyo");
    tab.chat.close();
    other.close();
    await line.close();
  });

  test("leaves another message alone that got the number when the log lost the one that was meant", async () => {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    const username = await tab.signUp();
    const cave = await tab.chat.createRoom({ name: `Cave of ${name()}` });
    tab.chat.openBeside([cave]);
    tab.say("said first", cave);
    await tab.shows("said first", cave);
    const [first] = tab.chat.snapshot().rooms?.get(cave)?.log?.messages ?? [];
    await until(() => tab.chat.snapshot().outgoing.length === 0);
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    if (first !== undefined) tab.chat.editMessage(first, "said first, in other words");
    await house.redis.del(house.keys.room(cave), house.keys.read(cave));
    await house.redis.hdel(house.keys.meta(cave), "seq", "date", "hash");
    const elsewhere = openTab();
    elsewhere.chat.openBeside([cave]);
    await elsewhere.chat.logIn(username, PASSWORD);
    await elsewhere.online();
    elsewhere.say("said instead", cave);
    await elsewhere.shows("said instead", cave);
    line.giveBack();
    tab.back();
    await tab.shows("said instead", cave);
    await until(() => tab.chat.snapshot().changing.length === 0, PATIENCE_MS, "the edit to be given up");
    await elsewhere.shows("said first", cave);
    expect(elsewhere.texts(cave)).toEqual(["said instead", "said first"]);
    expect(tab.chat.snapshot().drafts.get(cave)).toBe("said first, in other words");
    elsewhere.chat.close();
    tab.chat.close();
    await line.close();
  });

  test("gets no answer that was meant for another one, which the log has lost with its number", async () => {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    const { cave, other } = await caveOf(tab);
    tab.say("welcome", cave);
    await tab.shows("welcome", cave);
    const question = await other.say(cave, "shall we delete it?");
    await tab.shows("shall we delete it?", cave);
    const slot = threadSlot(cave, question.seq);
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    tab.chat.answer(cave, question);
    tab.say("yes, at once", cave);
    tab.chat.setDraft(slot, "yes, as soon as you can");
    tab.chat.send(cave, question);
    tab.chat.answer(cave, question);
    await house.redis.zremrangebyscore(house.keys.room(cave), question.date, question.date);
    const [first] = await house.redis.zrange(house.keys.room(cave), "0", "0");
    const { seq, date, hash } = JSON.parse(first ?? "{}") as Message;
    await house.redis.hset(house.keys.meta(cave), { seq, date, hash });
    const instead = await other.say(cave, "shall we keep it?");
    expect(instead.seq).toBe(question.seq);
    line.giveBack();
    tab.back();
    await tab.shows("shall we keep it?", cave);
    const failed = () => tab.chat.snapshot().outgoing.filter(({ state }) => state === "failed");
    await until(() => failed().length === 2, PATIENCE_MS, "both answers to fail");
    expect(failed().map((entry) => entry.state === "failed" && entry.failure.code)).toEqual([
      "not_found",
      "not_found",
    ]);
    expect(tab.texts(cave)).toEqual(["welcome", "shall we keep it?"]);

    // The draft of another answer is older than the loss.
    tab.say("yes, and soon", cave);
    await until(() => failed().length === 3, PATIENCE_MS, "the third to fail");
    const [one, two, three] = failed();
    tab.chat.retry(one?.nonce ?? "", true);
    tab.chat.discard(two?.nonce ?? "");
    await tab.shows("yes, at once", cave);
    const stored = tab.chat.snapshot().rooms?.get(cave)?.log?.messages.at(-1);
    expect(stored).not.toHaveProperty("replyTo");
    tab.chat.retry(three?.nonce ?? "");
    await until(() => failed().length === 0);
    await until(() => failed().length === 1, PATIENCE_MS, "it to be refused again");
    tab.chat.close();
    other.close();
    await line.close();
  });

  test("keeps its answers if its author brings it back under another number", async () => {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    const { cave, other } = await caveOf(tab);
    tab.say("who brings cake?", cave);
    await tab.shows("who brings cake?", cave);
    const row = (text: string) =>
      tab.chat
        .snapshot()
        .rooms?.get(cave)
        ?.log?.messages.find(({ message }) => message === text);
    const question = row("who brings cake?");
    if (question === undefined) throw new Error("it is not shown");
    tab.chat.answer(cave, question);
    tab.say("I do", cave);
    await tab.shows("I do", cave);
    await until(() => tab.chat.snapshot().outgoing.length === 0);
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    await house.redis.del(
      house.keys.room(cave),
      house.keys.read(cave),
      house.keys.thread(cave, question.seq),
    );
    await house.redis.hdel(house.keys.meta(cave), "seq", "date", "hash");
    await other.say(cave, "said instead");
    line.giveBack();
    tab.back();
    await tab.shows("said instead", cave);
    await until(() => tab.texts(cave)?.length === 3, PATIENCE_MS, "both to come back");
    expect(tab.texts(cave)).toEqual(["said instead", "who brings cake?", "I do"]);
    expect(row("I do")).toMatchObject({ replyTo: row("who brings cake?")?.seq, thread: 2 });
    tab.chat.close();
    other.close();
    await line.close();
  });

  test("is shown in its present state in a room beside the open one, which is complete too", async () => {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    await tab.signUp();
    const cave = await tab.chat.createRoom({ name: `Cave of ${name()}` });
    tab.say("a tpyo", cave);
    tab.chat.openBeside([cave]);
    await tab.shows("a tpyo", cave);
    const elsewhere = openTab(tab.profile);
    await elsewhere.chat.start();
    await elsewhere.online();
    const edit = async (text: string) => {
      const [said] = tab.chat.snapshot().rooms?.get(cave)?.log?.messages ?? [];
      if (said === undefined) throw new Error("the message is not shown");
      elsewhere.chat.editMessage(said, text);
      await until(() => elsewhere.chat.snapshot().changing.length === 0, 10_000, "the edit to be stored");
    };
    await edit("a typo");
    await tab.shows("a typo", cave);
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    await edit("the best typo");
    elsewhere.say("said meanwhile", cave);
    await until(() => elsewhere.chat.snapshot().outgoing.length === 0, 10_000, "the message to be stored");
    await house.redis.del(house.keys.revs(cave));
    line.giveBack();
    tab.back();
    await tab.shows("said meanwhile", cave);
    await tab.shows("the best typo", cave);
    for (const { chat } of [tab, elsewhere]) chat.close();
    await line.close();
  });
});

describe("a client that was away while more was said than it catches up with", () => {
  /** A tab in a room where so much was said, behind a line that is taken and given back. */
  async function awayTab(said: number) {
    const line = await startLine();
    const tab = openTab(undefined, line.address);
    await tab.signUp();
    const other = await somebody();
    const { id: cave } = await other.makes({ name: `Cave of ${name()}` });
    for (let count = 1; count <= said; count += 1) await other.say(cave, `said ${count}`);
    await tab.chat.joinRoom(cave);
    tab.chat.openRoom(cave);
    await tab.shows(`said ${said}`, cave);
    return {
      ...tab,
      cave,
      other,
      async leaves() {
        line.take();
        await until(() => tab.chat.snapshot().connection !== "online", PATIENCE_MS, "the connection's end");
      },
      async miss(count: number) {
        for (let index = 1; index <= count; index += 1) await other.say(cave, `missed ${index}`);
      },
      async returns(last: string) {
        line.giveBack();
        tab.back();
        await tab.shows(last, cave);
      },
      async close() {
        tab.chat.close();
        other.close();
        await line.close();
      },
    };
  }

  test.each([50, 1_100])("has all answers of an open thread: after %d messages", async (missed) => {
    const tab = await awayTab(1);
    const { cave, chat, other } = tab;
    const answer = async (text: string) => {
      const send = { roomId: cave, message: text, nonce: `n-${text}`, replyTo: 1 };
      unwrap(await other.socket.timeout(PATIENCE_MS).emitWithAck("message", send));
    };
    const answers = () => {
      const { thread } = chat.snapshot();
      return thread?.is === "shown" ? thread.answers.map(({ message }) => message) : [];
    };
    await answer("first");
    await tab.shows("first", cave);
    chat.openThread(cave, 1);
    await until(() => answers().includes("first"), PATIENCE_MS, "the thread");
    await tab.leaves();
    await answer("second");
    await tab.miss(missed);
    await answer("third");
    await tab.returns("third");
    await until(() => answers().length === 3, PATIENCE_MS, "all answers");
    expect(answers()).toEqual(["first", "second", "third"]);
    await tab.close();
  });

  test.each([50, 1_100])(
    "does not show what was deleted where its user had gone: after %d messages",
    async (missed) => {
      const tab = await awayTab(150);
      const { cave, chat, other } = tab;
      const shown = () => {
        const { visit } = chat.snapshot();
        return visit?.is === "apart" ? visit.log.messages.find(({ seq }) => seq === 10)?.message : undefined;
      };
      chat.openRoom(cave, 10);
      await until(() => shown() === "said 10", PATIENCE_MS, "the old message");
      await tab.leaves();
      const target = { roomId: cave, seq: 10 };
      unwrap(await other.socket.timeout(PATIENCE_MS).emitWithAck("message.delete", target));
      await tab.miss(missed);
      await tab.returns(`missed ${missed}`);
      await until(() => shown() !== "said 10", PATIENCE_MS, "the text to go");
      await tab.close();
    },
  );
});

describe("an answer that comes after the news of a lost log", () => {
  /** A tab whose requests are answered as soon as `release` is called; `hold` begins with the next one that fits. */
  function slowTab() {
    const held: (() => void)[] = [];
    let fits: ((what: string) => boolean) | null = null;
    async function wait(what: string) {
      if (fits?.(what)) await new Promise<void>((release) => held.push(release));
    }
    const tab = openTab(undefined, undefined, (world) => ({
      // The next `sync` is sent almost a second after the news.
      random: () => 30,
      async fetch(path, init) {
        const response = await world.fetch(path, init);
        await wait(path);
        return response;
      },
      connect: asking(world, async (ask, event) => {
        const answer = await ask();
        await wait(event);
        return answer;
      }),
    }));
    return {
      ...tab,
      /** Does what makes a request, and resolves once its answer is held back. */
      async hold(what: (request: string) => boolean, work: () => void) {
        fits = what;
        work();
        await until(() => held.length > 0, PATIENCE_MS, "the answer");
        fits = null;
      },
      release() {
        for (const go of held) go();
      },
    };
  }

  /** Makes Redis lose what came after a message. */
  async function lose({ roomId, seq, date, hash }: Message) {
    await house.redis.zremrangebyscore(house.keys.room(roomId), `(${date}`, "+inf");
    await house.redis.hset(house.keys.meta(roomId), { seq, date, hash });
  }

  test("to `sync` is not taken for the present log's, whose messages never join the lost ones", async () => {
    const tab = slowTab();
    const { cave, other } = await caveOf(tab);
    const first = await other.say(cave, "one");
    await other.say(cave, "two");
    await other.say(cave, "three");
    await tab.shows("three", cave);
    await tab.hold(
      (request) => request === "sync",
      () => tab.back(),
    );
    await lose(first);
    for (const text of ["two, anew", "three, anew", "four, anew"]) await other.say(cave, text);
    await until(() => tab.chat.snapshot().rooms?.get(cave)?.held.at(-1)?.seq === 4, PATIENCE_MS, "four");
    tab.release();
    await tab.shows("two, anew", cave);
    expect(tab.texts(cave)).toEqual(["one", "two, anew", "three, anew", "four, anew"]);
    tab.chat.close();
    other.close();
  });

  test("with an older page is asked for anew, so that no lost message is put before the present ones", async () => {
    const tab = slowTab();
    await tab.signUp();
    const [other, another] = [await somebody(), await somebody()];
    const { id: cave } = await other.makes({ name: `Cave of ${name()}` });
    unwrap(await another.socket.emitWithAck("room.join", { roomId: cave }));
    const total = LIMITS.pageDefault + 5;
    const first = await other.say(cave, "the first");
    for (let count = 2; count <= total; count += 1) await other.say(cave, `lost ${count}`);
    await tab.chat.joinRoom(cave);
    tab.chat.openBeside([cave]);
    await tab.shows(`lost ${total}`, cave);
    await tab.hold(
      (request) => request.includes("before="),
      () => void tab.chat.loadOlder(cave),
    );
    await lose(first);
    for (let count = 2; count <= total; count += 1) await another.say(cave, `anew ${count}`);
    await tab.shows(`anew ${total}`, cave);
    await until(
      () => !tab.texts(cave)?.some((text) => text.startsWith("lost")),
      PATIENCE_MS,
      "the present log",
    );
    tab.release();
    await tab.shows("the first", cave);
    const anew = Array.from({ length: total - 1 }, (_, index) => `anew ${index + 2}`);
    expect(tab.texts(cave)).toEqual(["the first", ...anew]);
    tab.chat.close();
    for (const one of [other, another]) one.close();
  });
});

test("a message is sent again if the log of its answer was lost before anybody heard it", async () => {
  let isLost = false;
  const tab = openTab(undefined, undefined, (world) => ({
    connect: asking(world, (ask, event, body) => {
      if (event !== "message" || isLost) return ask();
      isLost = true;
      const sent = body as { roomId: RoomId; message: string; nonce: string };
      const { session, rooms } = tab.chat.snapshot();
      const from = session.is === "signed in" ? session.user.id : "";
      const seq = (rooms?.get(sent.roomId)?.seq ?? 0) + 1;
      const value = { ...sent, seq, date: Date.now(), hash: "0123456789ab", from };
      return Promise.resolve({ ok: true, value });
    }),
  }));
  const { cave, other } = await caveOf(tab);
  await other.say(cave, "before");
  await tab.shows("before", cave);
  tab.say("lost at first", cave);
  await other.hears("lost at first");
  await tab.shows("lost at first", cave);
  await until(() => tab.chat.snapshot().outgoing.length === 0, PATIENCE_MS, "the outbox");
  await other.say(cave, "after");
  await tab.shows("after", cave);
  expect(tab.texts(cave)).toEqual(["before", "lost at first", "after"]);
  tab.chat.close();
  other.close();
});

test("a client on a line of 64 kbit/s shows what was said last while it was away, and says how much that was", async () => {
  let bytesInMs = Infinity;
  let isDown = false;
  const { port } = new URL(both(house)[0].address);
  const wire = await startWire(`redis://127.0.0.1:${port}`, async (chunk, from) => {
    if (from === "redis") await new Promise((resolve) => setTimeout(resolve, chunk.length / bytesInMs));
    return isDown ? null : chunk;
  });
  const tab = openTab(undefined, wire.url.replace("redis:", "http:"));
  const { cave, other } = await caveOf(tab);
  await other.say(cave, "before");
  await tab.shows("before", cave);
  const told = new Set<number | null>();
  const stop = tab.chat.onChange((_, { returned }) => told.add(returned));
  isDown = true;
  wire.cut();
  await until(() => tab.chat.snapshot().connection === "offline", PATIENCE_MS, "the connection's end");
  for (let count = 1; count <= 45; count += 1) await other.say(cave, `${count} ${"long ".repeat(650)}`);
  await other.say(cave, "the last");
  isDown = false;
  bytesInMs = 8;
  tab.back();
  await until(() => tab.texts(cave)?.includes("the last"), 90_000, "the last message");
  expect(told).toEqual(new Set([null, 46]));
  stop();
  tab.chat.close();
  other.close();
  await wire.close();
});

test("a deletion that Redis has lost is shown no more, also if older messages are loaded at that moment", async () => {
  const tab = openTab();
  await tab.signUp();
  const other = await somebody();
  const { id: cave } = await other.makes({ name: `Cave of ${name()}` });
  for (let count = 1; count <= 70; count += 1) await other.say(cave, `said ${count}`);
  await tab.chat.joinRoom(cave);
  tab.chat.openRoom(cave);
  await tab.shows("said 70", cave);
  const room = () => tab.chat.snapshot().rooms?.get(cave);
  const message = () => room()?.log?.messages.find(({ seq }) => seq === 69);
  await until(() => room()?.stale === false && room()?.log?.older, PATIENCE_MS, "the newest page");
  const { keys, redis } = house;
  const parts = [keys.room(cave), keys.meta(cave), keys.changed(cave), keys.revs(cave), keys.deleted(cave)];
  const kept = await Promise.all(parts.map((key) => redis.dumpBuffer(key)));
  const target = { roomId: cave, seq: 69 };
  unwrap(await other.socket.timeout(PATIENCE_MS).emitWithAck("message.delete", target));
  await until(() => message()?.deleted !== undefined, PATIENCE_MS, "the deletion");
  for (const [index, key] of parts.entries()) {
    await redis.del(key);
    const dump = kept[index];
    if (dump) await redis.restore(key, 0, dump);
  }
  const doubts = room()?.doubts ?? 0;
  const stop = tab.chat.onChange((_, { rooms }) => {
    const now = rooms?.get(cave);
    if (now?.doubts === doubts + 1 && now.stale && now.load !== "loading")
      queueMicrotask(() => void tab.chat.loadOlder(cave));
  });
  await other.say(cave, "after");
  await tab.shows("after", cave);
  await until(() => message()?.message === "said 69", PATIENCE_MS, "the message");
  stop();
  tab.chat.close();
  other.close();
});

test("a log is not taken for proved by an answer to `sync` that did not come to it", async () => {
  const line = await startLine();
  let release = () => {};
  const isHeard = new Promise<void>((resolve) => (release = resolve));
  let holds = false;
  const tab = openTab(undefined, line.address, (world) => ({
    connect: asking(world, async (ask, event, body) => {
      const answer = await ask();
      const { rooms } = body as { rooms?: unknown[] };
      if (holds && event === "sync" && (rooms?.length ?? 0) > 1) await isHeard;
      return answer;
    }),
  }));
  await tab.signUp();
  const other = await somebody();
  const caves: RoomId[] = [];
  for (let count = 0; count < 6; count += 1) {
    const cave = await tab.chat.createRoom({ name: `Cave of ${name()}` });
    unwrap(await other.socket.emitWithAck("room.join", { roomId: cave }));
    caves.push(cave);
  }
  tab.chat.openBeside(caves);
  const last = caves.at(-1) ?? "";
  const said: Message[] = [];
  for (let seq = 1; seq <= 10; seq += 1) said.push(await other.say(last, `said ${seq}`));
  for (const cave of caves.slice(0, -1)) {
    await other.say(cave, "hello");
    await tab.shows("hello", cave);
  }
  await tab.shows("said 10", last);
  line.take();
  await until(() => tab.chat.snapshot().connection !== "online", PATIENCE_MS, "the connection's end");
  // Redis loses the last two messages of one room, others get their numbers; and much is said in the rooms before it.
  const { seq, date, hash } = said.at(7)!;
  await house.redis.zremrangebyscore(house.keys.room(last), `(${date}`, "+inf");
  await house.redis.hset(house.keys.meta(last), { seq, date, hash });
  for (const text of ["anew 9", "anew 10"]) await other.say(last, text);
  for (const cave of caves.slice(0, -1))
    for (let count = 0; count < 14; count += 1) await other.say(cave, "ä".repeat(4_000));
  holds = true;
  const stop = tab.chat.onChange((_, { rooms }) => {
    if (rooms?.get(last)?.held.some(({ message }) => message === "anew 11")) queueMicrotask(release);
  });
  line.giveBack();
  tab.back();
  await tab.online();
  await other.say(last, "anew 11");
  await tab.shows("anew 10", last);
  const begun = said.slice(0, 8).map(({ message }) => message);
  expect(tab.texts(last)).toEqual([...begun, "anew 9", "anew 10", "anew 11"]);
  stop();
  tab.chat.close();
  other.close();
  await line.close();
});

describe("a page from a Redis that is no longer the primary", () => {
  /** Answers the next pages from a lost history: each message differs, by a later change or from the beginning. */
  function lostHistory(differ: "by a change" | "from the beginning" = "by a change") {
    let left = 0;
    return {
      answerNext: (count: number) => void (left = count),
      left: () => left,
      part: (world: World): Partial<World> => ({
        async fetch(path, init) {
          const response = await world.fetch(path, init);
          if (left === 0 || !path.includes("/messages?")) return response;
          left -= 1;
          const page = (await response.json()) as Page;
          if (differ === "from the beginning") {
            const others = page.messages.map((one) => ({ ...one, message: "lost", hash: "0123456789ab" }));
            return Response.json({ ...page, messages: others });
          }
          const rev = (page.rev ?? 0) + 7;
          const messages = page.messages.map((message) => ({ ...message, message: "lost", rev }));
          return Response.json({ ...page, messages, rev, revHash: "0123456789ab" });
        },
      }),
    };
  }

  test("does not replace messages whose changes are unknown", async () => {
    const line = await startLine();
    const lost = lostHistory();
    const tab = openTab(undefined, line.address, lost.part);
    await tab.signUp();
    const other = await somebody();
    const { seq } = await other.say("0", "before");
    await tab.shows("before");
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    const edit = { roomId: "0", seq, message: "afterwards", rev: 0, nonce: "edit-lost" };
    unwrap(await other.socket.emitWithAck("message.edit", edit));
    await house.redis.del(house.keys.revs("0"));
    lost.answerNext(2);
    line.giveBack();
    tab.back();
    await tab.shows("afterwards");
    expect(lost.left()).toBe(0);
    expect(tab.texts()).not.toContain("lost");
    tab.chat.close();
    other.close();
    await line.close();
  });

  test("is shown, if it is a room's first, until the log of the connection contradicts it", async () => {
    const lost = lostHistory();
    const tab = openTab(undefined, undefined, lost.part);
    const other = await somebody();
    const { seq } = await other.say("0", "there before");
    unwrap(await other.socket.emitWithAck("message.react", { roomId: "0", seq, emoji: "👍", on: true }));
    lost.answerNext(1);
    await tab.signUp();
    await tab.shows("there before");
    await until(() => !tab.texts()?.includes("lost"));
    expect(lost.left()).toBe(0);
    tab.chat.close();
    other.close();
  });

  test.each(["by a change", "from the beginning"] as const)(
    "is not put before the shown messages, if it differs %s",
    async (differ) => {
      const lost = lostHistory(differ);
      const tab = openTab(undefined, undefined, lost.part);
      const other = await somebody();
      for (let count = 0; count < 60; count += 1) await other.say("0", `older ${count}`);
      await tab.signUp();
      await until(() => (tab.texts()?.length ?? 0) > 0);
      lost.answerNext(1);
      await tab.chat.loadOlder("0");
      expect(tab.chat.snapshot().rooms?.get("0")?.load).toBe("failed");
      await tab.chat.loadOlder("0");
      await tab.shows("older 2");
      expect(tab.texts()).not.toContain("lost");
      tab.chat.close();
      other.close();
    },
  );

  test("is not put before them, nor refused if it is of the present one, where the first of them is gone", async () => {
    const lost = lostHistory("from the beginning");
    const tab = openTab(undefined, undefined, lost.part);
    await tab.signUp();
    const other = await somebody();
    const { id: cave } = await other.makes({ name: `Cave of ${name()}` });
    const total = LIMITS.pageDefault + 10;
    for (let count = 1; count <= total; count += 1) await other.say(cave, `message ${count}`);
    await tab.chat.joinRoom(cave);
    tab.chat.openBeside([cave]);
    await tab.shows(`message ${total}`, cave);
    const [first] = tab.chat.snapshot().rooms?.get(cave)?.log?.messages ?? [];
    if (first === undefined) throw new Error("The room is empty.");
    await house.redis.zremrangebyscore(house.keys.room(cave), first.date, first.date);
    lost.answerNext(1);
    await tab.chat.loadOlder(cave);
    expect(lost.left()).toBe(0);
    expect(tab.texts(cave)).not.toContain("lost");
    await tab.chat.loadOlder(cave);
    expect(tab.texts(cave)).toHaveLength(total);
    tab.chat.close();
    other.close();
  });
});

describe("a requested change", () => {
  const row = ({ chat }: ReturnType<typeof openTab>, seq: number) =>
    chat
      .snapshot()
      .rooms?.get("0")
      ?.log?.messages.find((message) => message.seq === seq);

  test("is shown before its answer, survives a reload, and is made once", async () => {
    const first = openTab();
    await first.signUp();
    const other = await somebody();
    const { seq } = await other.say("0", "who is coming?");
    await first.shows("who is coming?");
    first.say("me");
    await until(() => first.texts()?.at(-1) === "me");
    const mine = first.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
    if (mine === undefined) throw new Error("it is not shown");
    const question = row(first, seq);
    if (question === undefined) throw new Error("it is not shown");
    first.wire()?.io.engine.close();
    await until(() => first.chat.snapshot().connection !== "online");
    first.chat.editMessage(mine, "me, and Tom");
    first.chat.react(question, "👍", false);
    first.chat.react(question, "👍", true);
    first.chat.pin(question, true);
    first.chat.setDraft("reply 0", String(seq));
    first.say("when is it?");
    const { changing, session } = first.chat.snapshot();
    expect(changing.map((entry) => entry.change.do)).toEqual(["edit", "react", "pin"]);
    const me = session.is === "signed in" ? session.user.id : "";
    expect(asChanged(mine, changing, me)).toMatchObject({ message: "me, and Tom" });
    expect(asChanged(question, changing, me)).toMatchObject({ reactions: [["👍", [me]]] });
    first.chat.close();

    const second = openTab(first.profile, both(house)[1].address);
    second.chat.openRoom("0");
    await second.chat.start();
    await second.shows("me, and Tom");
    await second.shows("when is it?");
    await until(() => second.chat.snapshot().changing.length === 0);
    expect(row(second, mine.seq)).toMatchObject({ message: "me, and Tom", nonce: mine.nonce });
    await until(() => row(second, seq)?.pinned);
    expect(row(second, seq)).toMatchObject({ reactions: [["👍", [me]]] });
    expect(second.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1)).toMatchObject({ replyTo: seq });
    const edited = row(second, mine.seq);
    if (edited !== undefined) second.chat.deleteMessage(edited);
    second.leave();
    await until(() => row(second, mine.seq)?.deleted);
    expect(row(second, mine.seq)?.message).toBe("");
    second.chat.close();
    other.close();
  });

  test("deletes a message even if its tab closes or the user logs out right after", async () => {
    const first = openTab();
    await first.signUp();
    const other = await somebody();
    const said = async (text: string) => {
      first.say(text);
      await until(() => first.texts()?.at(-1) === text && first.chat.snapshot().outgoing.length === 0);
      const message = first.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
      if (message === undefined) throw new Error("it is not shown");
      return message;
    };
    const [one, two, three] = [await said("a slip"), await said("a second slip"), await said("a third slip")];
    expect(first.chat.deleteMessage(two).undo()).toBe(true);
    first.chat.deleteMessage(one);
    first.chat.close();
    // When the next tab begins, the time to undo is over.
    const later = { ...systemClock, date: () => Date.now() + UNDO_MS };
    const second = openTab(first.profile, both(house)[1].address, () => ({ clock: later }));
    second.chat.openRoom("0");
    await second.chat.start();
    await until(() => row(second, one.seq)?.deleted);
    expect([row(second, two.seq)?.message, second.chat.snapshot().changing]).toEqual(["a second slip", []]);
    second.chat.deleteMessage(three);
    await second.chat.logOut();
    const page = await other.browser.get<Page>(`/api/rooms/0/messages?around=${three.seq}`);
    const now = page.body.messages.filter(({ seq }) => [one.seq, two.seq, three.seq].includes(seq));
    expect(now.map(({ message }) => message)).toEqual(["", "a second slip", ""]);
    expect([...first.profile.outboxes.values()].flatMap((kept) => [...kept])).toEqual([]);
    second.chat.close();
    other.close();
  });

  test("keeps no text of a message that another window deletes, even if it was closed at that time", async () => {
    const here = openTab();
    const username = await here.signUp();
    const there = openTab(undefined, both(house)[1].address);
    there.chat.openRoom("0");
    await there.chat.logIn(username, PASSWORD);
    await there.online();
    const said = async (text: string) => {
      here.say(text);
      await Promise.all([here.shows(text), there.shows(text)]);
      await until(() => here.chat.snapshot().outgoing.length === 0);
      const message = there.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
      if (message === undefined) throw new Error("it is not shown");
      here.chat.setDraft(`change 0 ${message.seq}`, `${text}, edited`);
      return message;
    };
    const [one, two] = [await said("a slip seen"), await said("a slip unseen")];
    const remembered = () => {
      const { outboxes, drafts } = here.profile;
      return JSON.stringify([...outboxes.values(), drafts].map((kept) => [...kept]));
    };
    const remove = async (message: Message) => {
      there.chat.deleteMessage(message);
      there.leave();
      await until(() => row(there, message.seq)?.deleted);
    };
    expect(remembered()).toContain("a slip seen, edited");
    await remove(one);
    await until(() => row(here, one.seq)?.deleted);
    expect(remembered()).not.toContain("a slip seen");
    here.chat.close();
    await remove(two);
    expect(remembered()).toContain("a slip unseen, edited");
    // It is on no page that the next window loads to be shown.
    const other = await somebody();
    for (let number = 0; number < 60; number += 1) await other.say("0", `said later ${number}`);
    other.close();
    const again = openTab(here.profile);
    await again.chat.start();
    await until(() => !remembered().includes("a slip unseen"));
    again.chat.close();
    there.chat.close();
  });

  test("is not edited over what came after the edit was begun, and is then, once its author has been told", async () => {
    const [here, there] = [openTab(), openTab(undefined, both(house)[1].address)];
    const username = await here.signUp();
    there.chat.openRoom("0");
    await there.chat.logIn(username, PASSWORD);
    await there.online();
    here.say("first words");
    await Promise.all([here.shows("first words"), there.shows("first words")]);
    const shown = () => {
      const message = here.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
      if (message === undefined) throw new Error("it is not shown");
      return message;
    };
    const first = shown();
    const slot = `change 0 ${first.seq}`;
    const settled = () => here.chat.snapshot().changing.every(({ state }) => state === "failed");
    here.chat.beginEdit(shown());
    here.chat.setDraft(slot, "first words, from here");
    there.chat.editMessage(shown(), "first words, from there");
    await here.shows("first words, from there");
    here.chat.editMessage(shown(), "first words, from here");
    await until(settled);
    expect(here.chat.snapshot().changing.map(({ state }) => state)).toEqual(["failed"]);
    expect(here.texts()?.at(-1)).toBe("first words, from there");
    expect(here.chat.snapshot().drafts.get(slot)).toBe("first words, from here");
    here.chat.editMessage(shown(), "first words, from both");
    await there.shows("first words, from both");
    // An edit that is begun while another is on its way is of the state that this one makes.
    here.chat.editMessage(shown(), "second words");
    here.chat.beginEdit(shown());
    expect(here.chat.snapshot().drafts.get(slot)).toBe("second words");
    await there.shows("second words");
    await until(settled);
    here.chat.editMessage(shown(), "last words");
    await there.shows("last words");
    expect(here.chat.snapshot().drafts).toEqual(new Map());
    // A page that still shows an older state begins it with the present one.
    await until(settled);
    here.chat.beginEdit(first);
    expect(here.chat.snapshot().drafts.get(slot)).toBe("last words");
    here.chat.editMessage(first, "words after all");
    await there.shows("words after all");
    here.chat.close();
    there.chat.close();
  });

  test("changes the message that is shown, also while its present state is in doubt", async () => {
    const tab = openTab();
    await tab.signUp();
    tab.say("in doubt");
    await tab.shows("in doubt");
    for (const text of ["as it was said", "as it was edited", "and in the end"]) {
      const shown = tab.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
      if (shown === undefined) throw new Error("it is not shown");
      tab.chat.editMessage(doubt(doubt(shown)), text);
      await until(() => tab.chat.snapshot().changing.length === 0);
      expect(tab.texts()?.at(-1)).toBe(text);
    }
    // What an earlier version has begun is refused once, with the state that it is to be compared with.
    const shown = tab.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
    if (shown === undefined) throw new Error("it is not shown");
    const slot = `change 0 ${shown.seq}`;
    tab.chat.setDraft(slot, "begun long ago");
    tab.chat.setDraft(`rev ${slot}`, "-1");
    tab.chat.editMessage(shown, "begun long ago");
    await until(() => tab.chat.snapshot().drafts.get(`rev ${slot}`) === `${shown.rev}`);
    tab.chat.editMessage(shown, "begun long ago");
    await until(() => tab.texts()?.at(-1) === "begun long ago");
    tab.chat.close();
  });

  test("keeps the typed text if the message was changed elsewhere meanwhile", async () => {
    const tab = openTab();
    await tab.signUp();
    tab.say("a frist try");
    await tab.shows("a frist try");
    const seen = tab.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
    if (seen === undefined) throw new Error("it is not shown");
    tab.chat.editMessage(seen, "a first try");
    await tab.shows("a first try");
    await until(() => tab.chat.snapshot().changing.length === 0);
    // As another device does that has not seen this change.
    tab.chat.editMessage(seen, "the first try");
    const slot = `change 0 ${seen.seq}`;
    await until(() => tab.chat.snapshot().drafts.has(slot));
    expect(tab.chat.snapshot().drafts.get(slot)).toBe("the first try");
    expect(tab.texts()?.at(-1)).toBe("a first try");
    const [refused] = tab.chat.snapshot().changing;
    expect(refused).toMatchObject({ state: "failed", failure: { code: "conflict" } });
    const now = tab.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1);
    if (now !== undefined) tab.chat.editMessage(now, "the first try");
    await tab.shows("the first try");
    await until(() => tab.chat.snapshot().changing.length === 0);
    expect(tab.chat.snapshot().drafts.has(slot)).toBe(false);
    tab.chat.close();
  });
});

describe("a message marked as unread", () => {
  /** Two windows of one user, on two replicas, who have read everything from somebody. */
  async function readAll(address = both(house)[1].address) {
    const here = openTab();
    const username = await here.signUp();
    const there = openTab(undefined, address);
    there.chat.openRoom("0");
    await there.chat.logIn(username, PASSWORD);
    await there.online();
    const other = await somebody();
    await other.say("0", `${username} one`);
    const second = await other.say("0", `${username} two`);
    await other.say("0", `${username} three`);
    await Promise.all([here.shows(`${username} three`), there.shows(`${username} three`)]);
    here.chat.watch("0");
    await until(() => unread(there) === 0 && unread(here) === 0);
    return { here, there, other, username, second };
  }
  const unread = ({ chat }: { chat: ChatClient }) => {
    const room = chat.snapshot().rooms?.get("0");
    return room === undefined ? -1 : unreadOf(room);
  };
  const onServer = async ({ chat }: { chat: ChatClient }, { user }: { user: User }) => {
    const { session } = chat.snapshot();
    const id = session.is === "signed in" ? session.user.id : user.id;
    return Number(await house.redis.hget(house.keys.read("0"), id));
  };

  test("is unread in all windows, and stays so until the user leaves the room and returns", async () => {
    const { here, there, other, username, second } = await readAll();
    here.chat.markUnread(second);
    expect(unread(here)).toBe(2);
    await until(() => unread(there) === 2);
    here.chat.watch(null);
    here.chat.watch("0");
    await other.say("0", `${username} four`);
    await there.shows(`${username} four`);
    await here.shows(`${username} four`);
    expect([unread(here), unread(there)]).toEqual([3, 3]);
    expect(await onServer(here, other)).toBe(second.seq - 1);
    here.chat.openRoom(null);
    here.chat.openRoom("0");
    here.chat.watch("0");
    await until(() => unread(there) === 0);
    expect(unread(here)).toBe(0);
    for (const { chat } of [here, there]) chat.close();
    other.close();
  });

  test("is read once the user sends a message", async () => {
    const { here, there, other, username, second } = await readAll();
    here.chat.markUnread(second);
    await until(() => unread(there) === 2);
    here.say(`${username} answers`);
    await until(() => unread(here) === 0 && unread(there) === 0);
    await other.say("0", `${username} on`);
    await until(() => unread(there) === 0 && there.texts()?.includes(`${username} on`) === true);
    for (const { chat } of [here, there]) chat.close();
    other.close();
  });

  test("is unread also for a window that was offline, or if an offline window marked it", async () => {
    const line = await startLine();
    const { here, there, other, second } = await readAll(line.address);
    line.take();
    await until(() => there.chat.snapshot().connection !== "online");
    here.chat.markUnread(second);
    await until(async () => (await onServer(here, other)) === second.seq - 1);
    line.giveBack();
    there.back();
    await until(() => unread(there) === 2);
    line.take();
    await until(() => there.chat.snapshot().connection !== "online");
    there.chat.openRoom(null);
    there.chat.openRoom("0");
    there.chat.watch("0");
    there.chat.markUnread({ ...second, seq: second.seq + 1 });
    expect(unread(there)).toBe(1);
    line.giveBack();
    there.back();
    await until(() => unread(here) === 1);
    expect(await onServer(here, other)).toBe(second.seq);
    for (const { chat } of [here, there]) chat.close();
    other.close();
    await line.close();
  });
});

test("what was said to everybody before a user joined does not mention them", async () => {
  const other = await somebody();
  const { id } = (await other.browser.post<Room>("/api/rooms", { name: `Late ${name()}` })).body;
  const first = await other.say(id, "@room, early");
  const tab = openTab();
  await tab.signUp();
  const mentions = () => {
    const room = tab.chat.snapshot().rooms?.get(id);
    return room === undefined ? null : mentionsOf(room);
  };
  await tab.chat.joinRoom(id);
  await tab.shows("@room, early", id);
  expect(mentions()).toBe(0);
  await other.say(id, "@room, late");
  await tab.shows("@room, late", id);
  expect(mentions()).toBe(1);
  // Who reacts to the early one, or edits it, calls nobody.
  unwrap(
    await other.socket.emitWithAck("message.react", { roomId: id, seq: first.seq, emoji: "👍", on: true }),
  );
  await until(() => tab.chat.snapshot().rooms?.get(id)?.log?.messages[0]?.reactions);
  expect(mentions()).toBe(1);
  tab.chat.openRoom(id);
  tab.chat.watch(id);
  await until(() => tab.chat.snapshot().rooms?.get(id)?.read === 2);
  tab.chat.watch(null);
  tab.chat.openRoom("0");
  const [row] = tab.chat.snapshot().rooms?.get(id)?.log?.messages ?? [];
  expect(row).toMatchObject({ seq: first.seq, message: "@room, early" });
  tab.chat.markUnread(first);
  await until(() => tab.chat.snapshot().rooms?.get(id)?.read === 0);
  tab.wire()?.io.engine.close();
  await until(() => tab.chat.snapshot().connection !== "online");
  await tab.online();
  expect(mentions()).toBe(1);
  tab.chat.close();
  other.close();
});

describe("a notification", () => {
  type Shown = { roomId: RoomId; title: string; text: string };

  /** A tab that is looked at or not, and its notifications. */
  function openWatched(profile: Profile, allowed: "granted" | "default" = "granted", address?: string) {
    const shown: Shown[] = [];
    const look = { attended: false, allowed };
    const tab = openTab(profile, address, () => ({
      attended: () => look.attended,
      desktop: {
        allowed: () => look.allowed,
        ask: async () => void (look.allowed = "granted"),
        show(notification) {
          shown.push(notification);
          return () => void shown.splice(shown.indexOf(notification), 1);
        },
      },
    }));
    return { ...tab, shown, look };
  }

  /** Sends a message that must be notified; then earlier ones of this room have had their time. */
  async function directRoom(tab: ReturnType<typeof openWatched>, other: Person) {
    const { session } = tab.chat.snapshot();
    const userId = session.is === "signed in" ? session.user.id : "";
    return (await other.browser.post<Room>("/api/rooms/private", { userId })).body.id;
  }

  test("tells of messages in a direct room while nobody looks, and is closed once they are read", async () => {
    const tab = openWatched(createProfile());
    await tab.signUp();
    const other = await somebody();
    const roomId = await directRoom(tab, other);
    await other.say("0", "to everybody");
    await other.say(roomId, "to you");
    await until(() => tab.shown.length > 0);
    expect(tab.shown).toEqual([{ roomId, title: other.user.username, text: "to you" }]);
    await other.say(roomId, "and again");
    await until(() => tab.shown[0]?.text === "and again");
    expect(tab.shown).toHaveLength(1);
    tab.chat.openRoom(roomId);
    tab.chat.watch(roomId);
    await until(() => tab.shown.length === 0);
    tab.chat.close();
    other.close();
  });

  test("does not tell of messages on the screen of any tab, and is closed when its message is deleted", async () => {
    const profile = createProfile();
    const tab = openWatched(profile);
    await tab.signUp();
    const other = await somebody();
    const roomId = await directRoom(tab, other);
    const second = openWatched(profile);
    await second.chat.start();
    await second.online();
    await other.say(roomId, "first");
    await until(() => tab.shown.length === 1);
    second.look.attended = true;
    second.chat.openRoom(roomId);
    await second.shows("first", roomId);
    await other.say(roomId, "on the screen");
    await second.shows("on the screen", roomId);
    second.chat.openRoom("0");
    const last = await other.say(roomId, "elsewhere");
    await until(() => tab.shown.some(({ text }) => text === "elsewhere"));
    // The tab that leads tells it, and nobody else.
    expect([tab, second].map(({ shown }) => shown.map(({ text }) => text))).toEqual([["elsewhere"], []]);
    unwrap(await other.socket.emitWithAck("message.delete", { roomId, seq: last.seq }));
    await until(() => tab.shown.length === 0);
    for (const { chat } of [tab, second]) chat.close();
    other.close();
  });

  test("of several messages is closed when the one whose text it shows is deleted", async () => {
    const line = await startLine();
    const tab = openWatched(createProfile(), "granted", line.address);
    const username = await tab.signUp();
    const other = await somebody();
    // From the first notification on it is known what came later.
    await other.say("0", `@${username} before`);
    await until(() => tab.shown.length === 1);
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    await other.say("0", `@${username} first`);
    const secret = await other.say("0", `@${username} second`);
    await other.say("0", "nobody in particular");
    line.giveBack();
    tab.back();
    await until(() => tab.shown[0]?.title.startsWith("2 "));
    expect(tab.shown).toEqual([{ roomId: "0", title: "2 mentions in General", text: secret.message }]);
    unwrap(await other.socket.emitWithAck("message.delete", { roomId: "0", seq: secret.seq }));
    await until(() => tab.shown.length === 0, PATIENCE_MS, "the text to leave the desktop");
    tab.chat.close();
    other.close();
    await line.close();
  });

  test("is offered only once there was something to tell, and never shown before", async () => {
    const tab = openWatched(createProfile(), "default");
    await tab.signUp();
    const other = await somebody();
    const roomId = await directRoom(tab, other);
    await other.say("0", "nothing to tell");
    expect(tab.chat.snapshot().notificationsWanted).toBe(false);
    await other.say(roomId, "something");
    await until(() => tab.chat.snapshot().notificationsWanted);
    expect(tab.shown).toEqual([]);
    expect(await tab.chat.allowNotifications()).toBe("granted");
    expect(tab.chat.snapshot().notificationsWanted).toBe(false);
    await other.say(roomId, "and more");
    await until(() => tab.shown.length === 1);
    tab.chat.close();
    other.close();
  });

  test("tells once for each room of messages missed while offline, and not of earlier ones", async () => {
    const line = await startLine();
    const profile = createProfile();
    const tab = openWatched(profile, "granted", line.address);
    const username = await tab.signUp();
    const other = await somebody();
    const roomId = await directRoom(tab, other);
    const quiet = (await other.browser.post<Room>("/api/rooms", { name: `quiet ${username}` })).body.id;
    await tab.chat.joinRoom(quiet);
    await other.say(roomId, "hello");
    await until(() => tab.shown.length === 1);
    line.take();
    await until(() => tab.chat.snapshot().connection !== "online");
    for (const text of ["one", "two", "three", "four", "five"]) await other.say(roomId, text);
    await other.say("0", "to nobody");
    await other.say("0", `for @${username}`);
    await other.say(quiet, "not for them");
    line.giveBack();
    tab.back();
    const from = other.user.username;
    const missed = [
      { roomId, title: `5 new messages from ${from}`, text: "five" },
      { roomId: "0", title: `${from} in General`, text: `for @${username}` },
    ];
    await until(() => tab.shown.length === 2 && tab.shown.every(({ text }) => text !== "hello"));
    expect(tab.shown.toSorted((one, next) => next.title.length - one.title.length)).toEqual(
      missed.toSorted((one, next) => next.title.length - one.title.length),
    );
    // A live message is told after everything that was missed.
    await other.say(roomId, "six");
    await until(() => tab.shown.some(({ text }) => text === "six"));
    expect(tab.shown.find((one) => one.roomId === roomId)?.title).toBe(from);
    tab.chat.close();

    const next = openWatched(profile);
    await next.chat.start();
    await next.online();
    await other.say(roomId, "seven");
    await until(() => next.shown.length > 0);
    expect(next.shown).toEqual([{ roomId, title: from, text: "seven" }]);
    next.chat.close();
    other.close();
    await line.close();
  });

  test("follows the level that the user chose for the room, on every device", async () => {
    const tab = openWatched(createProfile());
    const username = await tab.signUp();
    const phone = openTab(undefined, both(house)[1].address);
    phone.chat.openRoom("0");
    await phone.chat.logIn(username, PASSWORD);
    await phone.online();
    const other = await somebody();
    const roomId = await directRoom(tab, other);
    const notify = (id: RoomId) => tab.chat.snapshot().rooms?.get(id)?.notify;
    await other.say(roomId, "one");
    await until(() => tab.shown.length === 1);
    expect([notify("0"), notify(roomId)]).toEqual(["mentions", "all"]);
    await phone.chat.setNotify("0", "all");
    await phone.chat.setNotify(roomId, "nothing");
    await until(() => notify("0") === "all" && notify(roomId) === "nothing");
    await other.say(roomId, "two");
    await other.say("0", `${username} hears this`);
    await until(() => tab.shown.some((one) => one.text === `${username} hears this`));
    expect(tab.shown.find((one) => one.roomId === roomId)?.text).toBe("one");
    await expect(phone.chat.setNotify("4711", "all")).rejects.toMatchObject({ code: "not_found" });
    for (const { chat } of [tab, phone]) chat.close();
    other.close();
  });
});

describe("the next user of a browser", () => {
  test("does not say, send or end what a tab of the previous user still wants to", async () => {
    const line = await startLine();
    const profile = createProfile();
    const before = openTab(profile, line.address);
    const username = await before.signUp();
    const listener = await somebody();
    line.take();
    await until(() => before.chat.snapshot().connection !== "online");
    before.say("of the previous user");
    const call = before.chat.call();
    // Their session ends elsewhere, and somebody else logs in before this tab can hear of it.
    const elsewhere = openTab();
    elsewhere.chat.openRoom("0");
    await elsewhere.chat.logIn(username, PASSWORD);
    await elsewhere.chat.call()("DELETE", "/me/sessions");
    const after = openTab(profile);
    await after.signUp();
    line.giveBack();
    const codes = new Set<string>();
    for (const [method, path, body] of [
      ["PATCH", "/me", { displayName: "Not me" }],
      ["POST", "/rooms", { name: "Not mine" }],
      ["POST", "/logout", {}],
    ] as const)
      await call(method, path, body).catch((error: { code: string }) => codes.add(error.code));
    expect([...codes]).toEqual(["unauthorized"]);
    await until(() => before.chat.snapshot().session.is === "signed out", PATIENCE_MS, "the tab's end");
    after.say("of the next user");
    await listener.hears("of the next user");
    expect(listener.messages.map(({ message }) => message)).not.toContain("of the previous user");
    const { session } = after.chat.snapshot();
    expect(session.is === "signed in" && session.user).not.toHaveProperty("displayName");
    // It is not lost: its author finds it when they return.
    await after.chat.logOut();
    await after.chat.logIn(username, PASSWORD);
    await listener.hears("of the previous user");
    for (const tab of [before, elsewhere, after]) tab.chat.close();
    await line.close();
  });

  test("marks nothing as read by what the previous user looked at", async () => {
    const tab = openTab();
    await tab.signUp();
    const other = await somebody();
    tab.chat.watch("0");
    await tab.chat.logOut();
    await tab.signUp();
    const { read } = tab.chat.snapshot().rooms?.get("0") ?? {};
    await other.say("0", "unread by the second one");
    await tab.shows("unread by the second one");
    expect(tab.chat.snapshot().rooms?.get("0")?.read).toBe(read);
    tab.chat.close();
    other.close();
  });

  test("sees nothing that the previous user asked for", async () => {
    let letGo = () => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    let asked = 0;
    const tab = openTab(undefined, undefined, ({ fetch }) => ({
      async fetch(path, init) {
        const answer = await fetch(path, init);
        if (path !== "/api/rooms" || init.method !== "POST") return answer;
        asked += 1;
        await held;
        return answer;
      },
    }));
    await tab.signUp();
    const made = tab.chat.createRoom({ name: `Cave of ${name()}` }).catch(() => null);
    await until(() => asked === 1);
    await tab.chat.logOut();
    letGo();
    await made;
    expect(tab.chat.snapshot().rooms).toBe(null);
    await tab.signUp();
    expect([...(tab.chat.snapshot().rooms?.values() ?? [])].map((room) => room.names)).toEqual([["General"]]);
    tab.chat.close();
  });
});
