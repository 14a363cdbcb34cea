import type { Presence, UserId } from "@hubbub/server/protocol";
import { fold, matchOf, searchFor } from "@hubbub/server/search";
import { useMemo, useState } from "react";
import { isConnected } from "../../chat/state/connection.ts";
import { nameOf, searchedOf } from "../../chat/state/people.ts";
import { FoundCount, FoundNothing } from "../finding/Found.tsx";
import { useFound } from "../finding/useFound.ts";
import { useWays } from "../rooms/useWays.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Tag } from "../ui/Badge.tsx";
import { classes } from "../ui/classes.ts";
import { PersonName } from "../ui/PersonName.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { SkeletonRows } from "../ui/Skeleton.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./People.module.css";

const SHOWN_AT_ONCE = 100;

/**
 * Everybody, people who are online first; in one list while presence is unknown. Choosing somebody opens the private
 * room with them. Known people are found at once, others by the server, which knows how many there are.
 */
export function People() {
  const chat = useClient();
  const me = useMe();
  const users = useChat((state) => state.users);
  const connected = useChat(isConnected);
  // Who is online is about to be known, and would change the order.
  const starting = useChat((state) => state.connection === "starting");
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useState(SHOWN_AT_ONCE);
  const text = wanted.trim();
  const { answer, current, busy, fault, more } = useFound(chat.findUsers, connected ? text : null);
  const { online, offline } = useMemo(() => arrange(users, text, connected), [users, text, connected]);
  const known = online.length + offline.length;
  // New people may not be in the server's count yet.
  const total = current ? Math.max(answer.total, known) : null;
  const [all, setAll] = useState<number | null>(null);
  if (total !== null && text === "" && all !== total) setAll(total);

  function type(given: string) {
    setWanted(given);
    setShown(SHOWN_AT_ONCE);
  }

  function showMore() {
    setShown(shown + SHOWN_AT_ONCE);
    if (known < shown + SHOWN_AT_ONCE) more();
  }

  return (
    <div className={css.people}>
      <div className={css.search}>
        <SearchField label="Find people" busy={busy} value={wanted} onText={type} />
      </div>
      <FoundCount
        total={text !== "" && total !== null && total > 0 ? total : null}
        all={all}
        what={["person", "people"]}
      />
      {starting && <SkeletonRows />}
      <div className={css.scroller} tabIndex={-1} hidden={starting}>
        <Group title="Online" people={online.slice(0, shown)} total={online.length} known me={me.id} />
        <Group
          title={connected ? "Offline" : "People"}
          people={offline.slice(0, Math.max(0, shown - online.length))}
          total={total === null ? null : total - online.length}
          known={connected}
          me={me.id}
        />
        <FoundNothing>
          {fault ??
            (known > 0
              ? ""
              : total !== null
                ? "Nobody by that name."
                : connected
                  ? "Looking…"
                  : "Nobody known by that name.")}
        </FoundNothing>
        <ShowMore
          more={(total ?? known) > Math.min(shown, known)}
          count={Math.min(shown, known)}
          onMore={showMore}
        />
      </div>
    </div>
  );
}

function arrange(users: ReadonlyMap<UserId, Presence>, text: string, connected: boolean) {
  const search = searchFor(text);
  const found = [...users.values()]
    .filter((user) => !user.deleted)
    .map((user) => ({ user, folded: fold(searchedOf(user)) }))
    .map(({ user, folded }) => ({ user, folded, match: matchOf(folded, search) }))
    .filter(({ match }) => match > 0)
    // In the server's order.
    .toSorted((one, other) => other.match - one.match || (one.folded < other.folded ? -1 : 1))
    .map(({ user }) => user);
  return {
    online: found.filter((user) => connected && user.online),
    offline: found.filter((user) => !connected || !user.online),
  };
}

type GroupProps = {
  title: string;
  people: readonly Presence[];
  /** null while it is unknown. */
  total: number | null;
  /** Whether these people are known to be online, or offline. */
  known: boolean;
  me: UserId;
};

function Group({ title, people, total, known, me }: GroupProps) {
  const { talkTo } = useWays();
  if (people.length === 0) return null;
  return (
    <section>
      <h2>
        {title} {total !== null && <span className={css.count}>{total.toLocaleString()}</span>}
      </h2>
      <ul>
        {people.map((user) => (
          <li key={user.id}>
            {user.id === me ? (
              <span className={css.person}>
                <Avatar userId={user.id} name={nameOf(user)} online={known ? user.online : undefined} />
                <span data-part="name" className={css.name}>
                  <PersonName user={user} line />
                </span>
                <Tag>you</Tag>
              </span>
            ) : (
              <button
                type="button"
                className={classes(css.person, known && !user.online && css.away)}
                title={`Talk to ${nameOf(user)} in private`}
                onClick={() => talkTo(user.id)}
              >
                <Avatar userId={user.id} name={nameOf(user)} online={known ? user.online : undefined} />
                <span data-part="name" className={css.name}>
                  <PersonName user={user} line />
                </span>
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
