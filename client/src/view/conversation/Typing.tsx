import type { RoomId } from "@hubbub/server/protocol";
import { nameIn } from "../../chat/state/people.ts";
import { useChat } from "../useChat.ts";
import css from "./Typing.module.css";

/** Who else is writing in the room. Not read out, because it would interrupt other texts and has no news. */
export function Typing({ roomId }: { roomId: RoomId }) {
  const words = useChat((state) => {
    const names = (state.typing.get(roomId) ?? []).map((id) => nameIn(state.users, id));
    return wordsOn(names);
  });
  return (
    <p className={css.typing} data-part="typing">
      {words}
    </p>
  );
}

function wordsOn([first, second, ...others]: string[]): string {
  if (first === undefined) return "";
  if (second === undefined) return `${first} is typing…`;
  if (others.length === 0) return `${first} and ${second} are typing…`;
  return `${first} and ${others.length + 1} others are typing…`;
}
