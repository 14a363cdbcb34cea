import type { ListedRoom } from "@hubbub/server/protocol";
import { Choices } from "../ui/Choices.tsx";

type Kind = ListedRoom["kind"];

const KINDS: readonly { value: Kind; words: string; note: string }[] = [
  { value: "open", words: "Open", note: "Everybody on this server can find it and join." },
  { value: "invite", words: "By invitation", note: "Only people who are added or have an invite link." },
];

/** Who may come into a named room. */
export function RoomKindField({ kind, onKind }: { kind: Kind; onKind: (kind: Kind) => void }) {
  return <Choices legend="Who can join" value={kind} choices={KINDS} onChoose={onKind} />;
}
