import type { UserId } from "@hubbub/server/protocol";
import { useChat } from "../useChat.ts";
import css from "./Avatar.module.css";
import { classes } from "./classes.ts";

const TONES = ["#2f6f8f", "#a34432", "#3f5fa8", "#7c4a8a", "#2a7a6d", "#a0405f", "#866312", "#4d7430"];

type Props = { userId: UserId; name: string; online?: boolean | undefined; large?: boolean };

/**
 * A person's picture; without one, and until it is here, their colour and initials. With `online` given, a dot tells
 * whether they are there.
 */
export function Avatar({ userId, name, online, large = false }: Props) {
  const avatar = useChat((state) => state.users.get(userId)?.avatar);
  return (
    <span
      className={classes(css.avatar, large && css.large)}
      style={{ backgroundColor: TONES[Number(userId) % TONES.length] }}
      aria-hidden="true"
    >
      {initials(name)}
      {avatar !== undefined && (
        <img
          key={avatar}
          src={`/api/users/${userId}/avatar?v=${encodeURIComponent(avatar)}`}
          alt=""
          draggable={false}
          onLoad={({ currentTarget }) => (currentTarget.dataset["here"] = "")}
        />
      )}
      {online !== undefined && <span data-part="dot" data-online={online || undefined} className={css.dot} />}
    </span>
  );
}

function initials(name: string): string {
  const parts = name.split(/[\s._-]+/).filter(Boolean);
  const letters = parts.length > 1 ? parts.slice(0, 2).map((part) => firstOf(part, 1)) : [firstOf(name, 2)];
  return letters.join("").toUpperCase();
}

/** Characters, of which some are two UTF-16 units. */
function firstOf(text: string, count: number): string {
  return (text.match(/./gsu) ?? []).slice(0, count).join("");
}
