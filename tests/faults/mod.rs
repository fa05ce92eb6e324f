//! What must hold when processes are killed, power is cut and disks fill: load over both doors, faults, and the checker over all of it.

mod kafka;
mod kills;
mod load;
mod power;
mod room;
mod sim;
