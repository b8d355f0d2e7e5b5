package lab

// Nobody is the user and group id of processes that ExecUnprivileged makes.
const Nobody = 65534
