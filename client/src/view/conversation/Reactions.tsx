import type { Message } from "@hubbub/server/protocol";
import { nameIn } from "../../chat/state/people.ts";
import { useChat, useClient, useMe } from "../useChat.ts";
import { classes } from "../ui/classes.ts";
import css from "./Reactions.module.css";
import { useAttempt } from "./useAttempt.ts";
import { useClosed } from "./useClosed.ts";

/** How many names of people who reacted are shown; the others are counted. */
const NAMES_MOST = 10;

/** The reactions to a message, by emoji; a click adds or removes one's own, where the user may write. */
export function Reactions({ message }: { message: Message }) {
  const chat = useClient();
  const me = useMe();
  const attempt = useAttempt();
  const users = useChat((state) => state.users);
  const isClosed = useClosed(message.roomId) !== null;
  if (message.reactions === undefined) return null;
  return (
    <ul className={css.reactions} aria-label="Reactions">
      {message.reactions.map(([emoji, ids]) => {
        const mine = ids.includes(me.id);
        const names = ids.map((id) => (id === me.id ? "you" : nameIn(users, id, "somebody")));
        const who = listed(names);
        const label = `${emoji} ${ids.length}: ${who}`;
        const shown = (
          <>
            <span aria-hidden="true">{emoji}</span> {ids.length}
          </>
        );
        const look = classes(css.reaction, mine && css.mine);
        if (isClosed)
          return (
            <li key={emoji}>
              <span className={look} data-mine={mine || undefined} title={who}>
                <span aria-hidden="true">{shown}</span>
                <span className="hidden">{label}</span>
              </span>
            </li>
          );
        return (
          <li key={emoji}>
            <button
              type="button"
              className={look}
              aria-pressed={mine}
              aria-label={label}
              title={who}
              onClick={() => attempt(() => chat.react(message, emoji, !mine))}
            >
              {shown}
            </button>
          </li>
        );
      })}
    </ul>
  );
}

function listed(names: string[]): string {
  const shown = names.slice(0, NAMES_MOST);
  const others = names.length - shown.length;
  return others === 0 ? shown.join(", ") : `${shown.join(", ")} and ${others} more`;
}
