import { useCalls, type Reading } from "../useCalls.ts";
import { Button } from "./Button.tsx";
import { Fault } from "./Fault.tsx";
import { Spinner } from "./Spinner.tsx";

type Props = {
  of: Reading;
  /** What the Spinner says; without it there is none. */
  label?: string;
};

/** In the place of what is still to be read: a Spinner, or why it failed, with a way to try again. */
export function Missing({ of: { answer, fault, again }, label }: Props) {
  const { busy, run } = useCalls();
  if (fault === null) return answer === null && label !== undefined && <Spinner label={label} />;
  return (
    <>
      <Fault>{fault}</Fault>
      <Button busy={busy} onClick={() => run(again)}>
        Try again
      </Button>
    </>
  );
}
