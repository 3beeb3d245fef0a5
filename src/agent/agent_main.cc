// sealift-agentd: the daemon of one host. It runs VMs, and supervises the movers of their
// migrations.
#include "agent/daemon.h"

int main(int argc, char** argv) { return sealift::agent::RunDaemon(argc, argv); }
