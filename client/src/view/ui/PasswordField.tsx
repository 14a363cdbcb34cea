import { useState, type ComponentProps } from "react";
import { Field } from "./Field.tsx";

type Props = Omit<ComponentProps<typeof Field>, "type" | "aside" | "autoComplete"> & {
  autoComplete: "current-password" | "new-password";
};

/** A field for a password, which can be shown. */
export function PasswordField(props: Props) {
  const [shown, setShown] = useState(false);
  return (
    <Field
      type={shown ? "text" : "password"}
      autoCapitalize="none"
      spellCheck={false}
      aside={
        <button type="button" onClick={() => setShown(!shown)}>
          {shown ? "Hide" : "Show"}
          <span className="hidden"> {props.label.toLowerCase()}</span>
        </button>
      }
      {...props}
    />
  );
}
