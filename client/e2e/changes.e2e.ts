import { afterAll, beforeAll, expect, test } from "vitest";
import { message, messageTo, say, setStage, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("who writes is seen to write by the other one, until it is said", async () => {
  const ann = await stage.enter("ann-typing");
  const ben = await stage.enter("ben-typing", { replica: 1 });
  await messageTo(ann.page, "General").pressSequentially("I am");
  await ben.page.getByText("ann-typing is typing…").waitFor();
  expect(await ann.page.getByText("is typing…").count()).toBe(0);
  await say(ann.page, "I am here");
  await message(ben.page, "I am here").waitFor();
  await ben.page.getByText("ann-typing is typing…").waitFor({ state: "detached" });
  await ann.context.close();
  await ben.context.close();
});
