import type { Presence, UserId } from "@hubbub/server/protocol";
import { useEffect, useMemo, useState } from "react";
import { wordsOf } from "../chat/api.ts";
import { isConnected } from "../chat/state.ts";
import { Avatar } from "./Avatar.tsx";
import { Icon } from "./Icon.tsx";
import { useChat, useClient, useMe } from "./useChat.ts";

const SHOWN_AT_ONCE = 100;

/**
 * Everybody, the ones who are there first; in one list while that cannot be known. Choosing somebody opens the
 * private room with them. A number is told only of what is known as a whole.
 */
export function People({ onTalkTo }: { onTalkTo: (userId: UserId) => void }) {
  const chat = useClient();
  const me = useMe();
  const users = useChat((state) => state.users);
  const everybody = useChat((state) => state.everybody);
  const connected = useChat(isConnected);
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useState(SHOWN_AT_ONCE);
  const [fault, setFault] = useState<string | null>(null);
  const { online, offline } = useMemo(() => arrange(users, wanted, connected), [users, wanted, connected]);
  const offlineShown = offline.slice(0, Math.max(0, shown - online.length));
  const searching = wanted.trim() !== "";
  const found = online.length + offline.length;

  useEffect(() => {
    if (searching && !everybody) {
      chat.loadEverybody().then(
        () => setFault(null),
        (error: unknown) => setFault(wordsOf(error)),
      );
    }
  }, [chat, searching, everybody]);

  function showMore() {
    setShown(shown + SHOWN_AT_ONCE);
    if (everybody) return;
    chat.loadPeople().then(
      () => setFault(null),
      (error: unknown) => setFault(wordsOf(error)),
    );
  }

  return (
    <div className="people-inside">
      <label className="search">
        <Icon name="search" />
        <span className="hidden">Find people</span>
        <input
          type="search"
          placeholder="Find people"
          value={wanted}
          data-first
          onChange={(event) => setWanted(event.target.value)}
        />
      </label>
      <div className="people-scroll" tabIndex={-1}>
        <Group
          title="Online"
          people={online.slice(0, shown)}
          total={!searching || everybody ? online.length : null}
          known
          me={me.id}
          onTalkTo={onTalkTo}
        />
        <Group
          title={connected ? "Offline" : "People"}
          people={offlineShown}
          total={everybody ? offline.length : null}
          known={connected}
          me={me.id}
          onTalkTo={onTalkTo}
        />
        <p className="people-none" aria-live="polite">
          {fault ?? (found > 0 ? "" : everybody ? "Nobody by that name." : "Looking…")}
        </p>
        {(found > shown || !(everybody || searching)) && (
          <button type="button" className="button button-wide" onClick={showMore}>
            Show more
          </button>
        )}
      </div>
    </div>
  );
}

const collator = new Intl.Collator();

function arrange(users: ReadonlyMap<UserId, Presence>, wanted: string, connected: boolean) {
  const text = wanted.trim().toLowerCase();
  const found = [...users.values()]
    .filter((user) => user.username.toLowerCase().includes(text))
    .toSorted((one, other) => collator.compare(one.username, other.username));
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
        {title} {total !== null && <span className="count">{total}</span>}
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
