import type { RoomId } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { useOverlays } from "../overlays.ts";
import { useWays } from "../rooms/useWays.ts";
import { dayOf } from "../time.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog, DialogActions } from "../ui/Dialog.tsx";
import { Field } from "../ui/Field.tsx";
import { useCalls } from "../useCalls.ts";
import { useClient } from "../useChat.ts";

/** Goes to the first message of a day, or of the next day that has one. */
export function JumpToDate({ roomId, date }: { roomId: RoomId; date: number }) {
  const chat = useClient();
  const { close } = useOverlays();
  const { enter } = useWays();
  const [day, setDay] = useState(() => dayAsTyped(date));
  const [today] = useState(() => dayAsTyped(Date.now()));
  const [fault, setFault] = useState<string>();
  const { busy, fault: failed, run } = useCalls();

  function go(at: number) {
    run(async () => {
      const seq = await chat.seqAt(roomId, at);
      if (seq === null) setFault("Nothing was said here yet.");
      else enter(roomId, seq);
    });
  }

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const [year, month, of] = day.split("-").map(Number);
    if (year === undefined || month === undefined || of === undefined) setFault("Choose a day.");
    else go(Math.max(0, new Date(year, month - 1, of).getTime()));
  }

  return (
    <Dialog title="Jump to a day" onClose={close}>
      <form onSubmit={onSubmit} noValidate>
        <Field
          label="Day"
          type="date"
          value={day}
          max={today}
          fault={fault ?? failed ?? undefined}
          data-first
          onText={(given) => {
            setDay(given);
            setFault(undefined);
          }}
        />
        <DialogActions>
          <Button disabled={busy} onClick={() => go(0)}>
            The beginning
          </Button>
          <Button type="submit" look="main" busy={busy}>
            Jump
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

/** 2026-03-01, of the local day */
function dayAsTyped(date: number): string {
  const day = new Date(dayOf(date));
  const two = (number: number) => String(number).padStart(2, "0");
  return `${String(day.getFullYear()).padStart(4, "0")}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
}
