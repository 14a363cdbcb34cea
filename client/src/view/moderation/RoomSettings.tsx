import { isNamed, LIMITS, type Room, type RoomPatch } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { RoomKindField } from "../rooms/RoomKindField.tsx";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Confirm.tsx";
import { DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Field } from "../ui/Field.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useClient } from "../useChat.ts";
import { look } from "../ui/Rows.tsx";
import { Select } from "../ui/Select.tsx";
import { useCalls } from "../useCalls.ts";
import { useEdited } from "../useEdited.ts";
import type { DetailedRoom } from "./detailedRoom.ts";

const SLOW = [
  { value: 0, words: "Off" },
  { value: 10, words: "10 seconds" },
  { value: 60, words: "1 minute" },
  { value: 600, words: "10 minutes" },
  { value: 3_600, words: "1 hour" },
];

/** What moderators and owners set for a room. */
export function RoomSettings({ room, onChange }: { room: DetailedRoom; onChange: (room: Room) => void }) {
  const chat = useClient();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  const named = isNamed(room.kind);
  const owns = room.standing.role === "owner";
  const archived = (room.settings.archived ?? 0) > 0;
  const present = {
    name: room.names[0] ?? "",
    topic: room.settings.topic ?? "",
    slow: room.settings.slow ?? 0,
    kind: room.kind === "invite" ? ("invite" as const) : ("open" as const),
  };
  const { fields, edited, edit, settle } = useEdited(present);
  const { name, topic, slow, kind } = fields;
  const [asked, setAsked] = useState(false);

  function save(event: FormEvent) {
    event.preventDefault();
    const patch: RoomPatch = {
      ...(named && name.trim() !== present.name && { name: name.trim() }),
      ...(topic.trim() !== present.topic && { topic: topic.trim() }),
      ...(slow !== present.slow && { slow }),
      ...(named && owns && kind !== present.kind && { kind }),
    };
    run(async () => {
      if (Object.keys(patch).length > 0) onChange(await chat.changeRoom(room.id, patch));
      settle(edited);
      tell("The settings are saved.");
    });
  }

  function archive(on: boolean) {
    run(async () => {
      onChange(await chat.changeRoom(room.id, { archived: on }));
      setAsked(false);
      tell(on ? "The room is archived." : "The room is open again.");
    });
  }

  return (
    <form onSubmit={save} noValidate>
      {named && (
        <Field
          label="Name"
          value={name}
          maxLength={LIMITS.roomName}
          onText={(given) => edit({ name: given })}
        />
      )}
      <Field
        label="Topic"
        value={topic}
        maxLength={LIMITS.topic}
        onText={(given) => edit({ topic: given })}
      />
      <Select
        label="Slow mode: wait between two messages"
        value={slow}
        options={SLOW}
        onValue={(given) => edit({ slow: given })}
      />
      {named && owns && <RoomKindField kind={kind} onKind={(given) => edit({ kind: given })} />}
      {fault !== null && <Fault>{fault}</Fault>}
      <DialogActions>
        <Button type="submit" look="main" busy={busy}>
          Save
        </Button>
      </DialogActions>
      {named && owns && (
        <>
          <h3>{archived ? "This room is archived" : "Archive this room"}</h3>
          <p className={look.about}>
            {archived
              ? "Everybody in it can read it, and nobody can write."
              : "Everybody in it can still read it, and nobody can write until it is opened again."}
          </p>
          <div className={look.choices}>
            {archived ? (
              <Button disabled={busy} onClick={() => archive(false)}>
                Open it again
              </Button>
            ) : asked ? (
              <Confirm
                text="Nobody will be able to write in this room. Archive it?"
                yes="Archive room"
                busy={busy}
                onYes={() => archive(true)}
                onCancel={() => setAsked(false)}
              />
            ) : (
              <Button disabled={busy} onClick={() => setAsked(true)}>
                Archive…
              </Button>
            )}
          </div>
        </>
      )}
    </form>
  );
}
