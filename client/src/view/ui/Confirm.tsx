import { useEffect, useId, useRef } from "react";
import { Button } from "./Button.tsx";
import { Fault } from "./Fault.tsx";
import { look } from "./Rows.tsx";

type Props = {
  text: string;
  /** The label of the button that acts. */
  yes: string;
  /** Whether that is under way, and why it failed. */
  busy: boolean;
  fault?: string | null;
  onYes: () => void;
  onCancel: () => void;
};

/**
 * Asks, in the place of the button that was pressed, before something that people notice. The focus goes to Cancel:
 * the question is read out with it, and a second press of Enter does nothing.
 */
export function Confirm({ text, yes, busy, fault = null, onYes, onCancel }: Props) {
  const group = useRef<HTMLFieldSetElement>(null);
  const id = useId();
  useEffect(() => group.current?.querySelector("button")?.focus(), []);
  return (
    <fieldset ref={group} className={look.choices} aria-labelledby={id}>
      <p id={id}>{text}</p>
      <Button disabled={busy} onClick={onCancel}>
        Cancel
      </Button>
      <Button look="danger" disabled={busy} onClick={onYes}>
        {yes}
      </Button>
      {fault !== null && <Fault>{fault}</Fault>}
    </fieldset>
  );
}
