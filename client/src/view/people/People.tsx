import type { Presence, UserId } from "@hubbub/server/protocol";
import { fold, matchOf, searchFor } from "@hubbub/server/search";
import { useMemo, useState } from "react";
import { isConnected } from "../../chat/state/connection.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import { countWords, useFound } from "../finding/useFound.ts";

const SHOWN_AT_ONCE = 100;

/**
 * Everybody, the ones who are there first; in one list while that cannot be known. Choosing somebody opens the
 * private room with them. Those who are known are found at once, the others by the server, which knows how many.
 */
export function People({ onTalkTo }: { onTalkTo: (userId: UserId) => void }) {
  const chat = useClient();
  const me = useMe();
  const users = useChat((state) => state.users);
  const connected = useChat(isConnected);
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useState(SHOWN_AT_ONCE);
  const text = wanted.trim();
  const { answer, current, busy, fault, more } = useFound(chat.findUsers, connected ? text : null);
  const { online, offline } = useMemo(() => arrange(users, text, connected), [users, text, connected]);
  const known = online.length + offline.length;
  // Who has just come may not have been there when the server counted.
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
    <div className="people-inside">
      <SearchField label="Find people" busy={busy} value={wanted} onText={type} />
      <p className="found-count" aria-live="polite">
        {text !== "" && total !== null && total > 0 && countWords(total, all, "people")}
      </p>
      <div className="people-scroll" tabIndex={-1}>
        <Group
          title="Online"
          people={online.slice(0, shown)}
          total={online.length}
          known
          me={me.id}
          onTalkTo={onTalkTo}
        />
        <Group
          title={connected ? "Offline" : "People"}
          people={offline.slice(0, Math.max(0, shown - online.length))}
          total={total === null ? null : total - online.length}
          known={connected}
          me={me.id}
          onTalkTo={onTalkTo}
        />
        <p className="people-none" aria-live="polite">
          {fault ??
            (known > 0
              ? ""
              : total !== null
                ? "Nobody by that name."
                : connected
                  ? "Looking…"
                  : "Nobody known by that name.")}
        </p>
        {(total ?? known) > Math.min(shown, known) && (
          <button type="button" className="button button-wide" onClick={showMore}>
            Show more
          </button>
        )}
      </div>
    </div>
  );
}

function arrange(users: ReadonlyMap<UserId, Presence>, text: string, connected: boolean) {
  const search = searchFor(text);
  const found = [...users.values()]
    .map((user) => ({ user, folded: fold(user.username) }))
    .map(({ user, folded }) => ({ user, folded, match: matchOf(folded, search) }))
    .filter(({ match }) => match > 0)
    // In the order in which the server finds them.
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
  /** null while it is not known. */
  total: number | null;
  /** Whether these people are known to be online, or offline. */
  known: boolean;
  me: UserId;
  onTalkTo: (userId: UserId) => void;
};

function Group({ title, people, total, known, me, onTalkTo }: GroupProps) {
  if (people.length === 0) return null;
  return (
    <section>
      <h2>
        {title} {total !== null && <span className="count">{total.toLocaleString()}</span>}
      </h2>
      <ul>
        {people.map((user) => (
          <li key={user.id}>
            {user.id === me ? (
              <span className="person">
                <Avatar userId={user.id} name={user.username} online={known ? user.online : undefined} />
                <span className="person-name">{user.username}</span>
                <span className="tag">you</span>
              </span>
            ) : (
              <button
                type="button"
                className={known && !user.online ? "person person-away" : "person"}
                title={`Talk to ${user.username} in private`}
                onClick={() => onTalkTo(user.id)}
              >
                <Avatar userId={user.id} name={user.username} online={known ? user.online : undefined} />
                <span className="person-name">{user.username}</span>
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
