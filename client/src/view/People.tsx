import type { Presence, UserId } from "@hubbub/server/protocol";
import { useMemo, useState } from "react";
import { Avatar } from "./Avatar.tsx";
import { Icon } from "./Icon.tsx";
import { useChat, useClient, useMe } from "./useChat.ts";

const SHOWN_AT_ONCE = 100;

/** Everybody, the ones who are there first. Choosing somebody opens the private room with them. */
export function People({ onTalkTo }: { onTalkTo: (userId: UserId) => void }) {
  const chat = useClient();
  const me = useMe();
  const users = useChat((state) => state.users);
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useState(SHOWN_AT_ONCE);
  const [hasMore, setHasMore] = useState(true);
  const { online, offline } = useMemo(() => arrange(users, wanted), [users, wanted]);
  const offlineShown = offline.slice(0, Math.max(0, shown - online.length));

  async function showMore() {
    setShown(shown + SHOWN_AT_ONCE);
    if (hasMore) setHasMore(await chat.loadPeople().catch(() => true));
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
          total={online.length}
          me={me.id}
          onTalkTo={onTalkTo}
        />
        <Group title="Offline" people={offlineShown} total={offline.length} me={me.id} onTalkTo={onTalkTo} />
        {online.length + offline.length === 0 && <p className="people-none">Nobody by that name.</p>}
        {(online.length + offline.length > shown || (hasMore && users.size >= SHOWN_AT_ONCE)) && (
          <button type="button" className="button button-wide" onClick={() => void showMore()}>
            Show more
          </button>
        )}
      </div>
    </div>
  );
}

function arrange(users: ReadonlyMap<UserId, Presence>, wanted: string) {
  const text = wanted.trim().toLowerCase();
  const found = [...users.values()]
    .filter((user) => user.username.toLowerCase().includes(text))
    .toSorted((one, other) => one.username.localeCompare(other.username));
  return { online: found.filter((user) => user.online), offline: found.filter((user) => !user.online) };
}

type GroupProps = {
  title: string;
  people: readonly Presence[];
  total: number;
  me: UserId;
  onTalkTo: (userId: UserId) => void;
};

function Group({ title, people, total, me, onTalkTo }: GroupProps) {
  if (people.length === 0) return null;
  return (
    <section>
      <h2>
        {title} <span className="count">{total}</span>
      </h2>
      <ul>
        {people.map((user) => (
          <li key={user.id}>
            {user.id === me ? (
              <span className="person">
                <Avatar userId={user.id} name={user.username} online={user.online} />
                <span className="person-name">{user.username}</span>
                <span className="tag">you</span>
              </span>
            ) : (
              <button
                type="button"
                className={user.online ? "person" : "person person-away"}
                title={`Talk to ${user.username} in private`}
                onClick={() => onTalkTo(user.id)}
              >
                <Avatar userId={user.id} name={user.username} online={user.online} />
                <span className="person-name">{user.username}</span>
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
