import type { ListedRoom } from "@hubbub/server/protocol";
import css from "./RoomKindField.module.css";

type Kind = ListedRoom["kind"];

const KINDS: readonly { kind: Kind; words: string; note: string }[] = [
  { kind: "open", words: "Open", note: "Everybody on this server can find it and join." },
  { kind: "invite", words: "By invitation", note: "Only people who are added or have an invite link." },
];

/** Who may come into a named room. */
export function RoomKindField({ kind, onKind }: { kind: Kind; onKind: (kind: Kind) => void }) {
  return (
    <fieldset className={css.kinds}>
      <legend>Who can join</legend>
      {KINDS.map((one) => (
        <label key={one.kind}>
          <input type="radio" name="kind" checked={kind === one.kind} onChange={() => onKind(one.kind)} />
          <span>
            {one.words}
            <small>{one.note}</small>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
