import type { UserId } from "@hubbub/server/protocol";
import type { World } from "./world.ts";

/** `leaving`: the page may be closed, and its lead is free. `leave`: this tab takes part no more. */
export type Tabs = { claim: () => void; leaving: () => void; leave: () => void };

type Needs = Pick<World, "locks" | "openChannel" | "clock" | "random">;
type Become = (leader: boolean) => void;

/** A claim to the lead. The greatest one has it: of a later term, and of two of one term either. */
type Claim = { term: number; by: number };
const NOBODY: Claim = { term: 0, by: 0 };

/** Tabs take a free lead at different times, and a new one waits that long for who leads. */
const TAKEN_WITHIN_MS = 300;

/**
 * Elects a leader among a user's tabs, one at a time. Calls `lead` with this tab's new role. `claim` takes the lead from
 * another tab: the tab in use should send, because the browser may have suspended the others. A lock of the browser says
 * who leads; where it has none (plain http beyond this machine), or refuses it, the tabs tell each other.
 */
export function joinTabs(userId: UserId, needs: Needs, lead: Become): Tabs {
  let left = false;
  let leads = false;
  const become = (leader: boolean) => {
    // A tab that has led without knowing of another one's lead looks at what that one left.
    if (left || !(leads || leader)) return;
    leads = leader;
    lead(leader);
  };
  const { locks } = needs;
  let way: Tabs;
  const refused = () => {
    if (!left) way = byWords(userId, needs, become);
  };
  if (locks === undefined) refused();
  else way = byLock(userId, locks, become, refused);

  return {
    claim() {
      if (!leads && !left) way.claim();
    },
    leaving() {
      if (leads) way.leaving();
    },
    leave() {
      left = true;
      way.leave();
    },
  };
}

/** One tab holds the lock, which passes on when that tab goes. */
function byLock(
  userId: UserId,
  locks: NonNullable<World["locks"]>,
  become: Become,
  refused: () => void,
): Tabs {
  let left = false;
  let inLine = new AbortController();
  let letGo = () => {};

  function hold(steal: boolean) {
    // One place in the queue is enough.
    inLine.abort();
    const place = (inLine = new AbortController());
    locks
      .request(`hubbub outbox ${userId}`, steal ? { steal } : { signal: place.signal }, () => {
        if (left) return undefined;
        become(true);
        return new Promise<void>((resolve) => (letGo = resolve));
      })
      .catch((error: unknown) => {
        if (place !== inLine || left) return;
        if ((error as Partial<Error> | undefined)?.name !== "AbortError") {
          refused();
          return;
        }
        // Another tab stole the lock: queue for when that tab goes.
        become(false);
        hold(false);
      });
  }

  hold(false);
  return {
    claim: () => hold(true),
    leaving() {},
    leave() {
      left = true;
      inLine.abort();
      letGo();
    },
  };
}

/** The tabs tell each other their claims, and the leader answers those that are less than its own. */
function byWords(userId: UserId, { openChannel, clock, random }: Needs, become: Become): Tabs {
  const me = random();
  let greatest = NOBODY;
  let cancel = () => {};
  const others = openChannel(`hubbub lead ${userId}`, (word) => hear(word as Claim | "free"));

  function claim() {
    cancel();
    greatest = { term: greatest.term + 1, by: me };
    others.tell(greatest);
    become(true);
  }

  function claimLater() {
    cancel();
    cancel = clock.after(TAKEN_WITHIN_MS * (0.5 + random() / 2), claim);
  }

  function hear(word: Claim | "free") {
    if (word === "free") claimLater();
    else if (isGreater(word, greatest)) {
      cancel();
      greatest = word;
      become(false);
    } else if (greatest.by === me) others.tell(greatest);
  }

  // Who leads answers this.
  others.tell({ term: -1, by: me });
  claimLater();
  return {
    claim,
    // A page that stays after all leads until it hears who has taken it.
    leaving() {
      if (greatest.by === me) others.tell("free");
      greatest = NOBODY;
    },
    leave() {
      cancel();
      if (greatest.by === me) others.tell("free");
      others.close();
    },
  };
}

function isGreater(one: Claim, other: Claim): boolean {
  return one.term === other.term ? one.by > other.by : one.term > other.term;
}
