/** The control plane as it is, measured. */
import "./collectable.ts"
import "../../src/ControlPlane/Main.ts"
