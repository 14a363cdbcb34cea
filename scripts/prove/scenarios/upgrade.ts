import { until } from "../crowd.ts";
import { linesOf, type Scenario } from "../stage.ts";
import { comeAndGo } from "./people.ts";

/** The data moves at the first check that is a minute after the last sign of an older server. */
const MOVED_WITHIN_MS = 100_000;
/** An older replica may hear of a change late. */
const HEARD_LATE_MS = 1_000;

/** Only `--beside COMMIT` plays it: all replicas begin as that commit's server. */
export const rollingUpgrade: Scenario = {
  name: "rolling-upgrade",
  title:
    "the replicas of an older version are replaced by new ones, one by one, on what the older have stored",
  older: true,
  // The older version does not know changes.
  changes: false,
  rules: { convergeMs: 20_000 },
  async run(stage) {
    const { rig, crowd, history, bundle, happened, must, fault, pause, tell } = stage;
    const [room = ""] = crowd.named;
    const inside = crowd.members.get(room) ?? [];
    const restless = inside.slice(5, 11);
    const schema = () => rig.admin.get("schema");
    happened((await schema()) === "1", "the older version stores what the new one does");
    // They send nothing meanwhile, because refused messages would count as lost.
    crowd.members.set(
      room,
      inside.filter((one) => !restless.includes(one)),
    );
    await until(() => restless.every((one) => one.pending === 0), 5_000, "the last words");

    const moves = comeAndGo(stage, restless, room, HEARD_LATE_MS);
    await pause(4_000);
    const mixedAt = history.now();
    for (const replica of rig.replicas) {
      await replica.terminate();
      fault(`stopped ${replica.name}, of the older version`);
      await replica.start({}, bundle);
      fault(`started ${replica.name}, of the new version`);
      await pause(8_000);
    }
    const changes = await moves.stop();
    crowd.members.set(room, inside);
    happened(changes >= 30, `only ${changes} changes of who is in a room`);
    happened((await schema()) === "1", "the new version did not wait for the older one to be gone");
    const acknowledged = linesOf(history, "acknowledged").filter(({ at }) => at > mixedAt).length;
    const over = performance.now();
    await until(async () => (await schema()) === "2", MOVED_WITHIN_MS, "the move to end", 500).catch(
      () => {},
    );
    must((await schema()) === "2", "what is stored was not moved");
    const movedS = ((performance.now() - over) / 1_000).toFixed(0);
    for (const id of crowd.named)
      must((await rig.admin.exists(`{room:${id}}:members`)) === 0, `the set of room ${id} is still there`);
    await pause(3_000);
    tell(
      `${acknowledged} messages stored while both versions ran, ${changes} joins and leaves, moved ${movedS} s later`,
    );
  },
};
