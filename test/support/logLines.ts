/** What holds of the log of every program, whatever it tells. */
import { assert } from "@effect/vitest"
import { lineNames, logLevels, logTargets } from "../../src/Schema/Logs.ts"
import { reasons } from "../../src/Schema/Reasons.ts"
import type { LogLine } from "./controlPlaneProcess.ts"

/** Each line is flat and whole, of a known target, and has a known reason when something is wrong. */
export function assertLines(lines: ReadonlyArray<LogLine>): void {
  assert.isNotEmpty(lines)
  for (const line of lines) {
    const told = JSON.stringify(line)
    assert.deepStrictEqual(Object.keys(line).slice(0, 4), [...lineNames], told)
    assert.match(String(line["timestamp"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.include(logLevels, line["level"], told)
    assert.include(Object.keys(logTargets), line["target"], told)
    if (line["level"] === "warn" || line["level"] === "error" || "reason" in line) {
      assert.include(Object.keys(reasons), line["reason"], told)
    }
    for (const value of Object.values(line)) {
      assert.include(["string", "number", "boolean"], typeof value, told)
      if (typeof value === "string") assert.notInclude(value, "\n", told)
    }
  }
}
