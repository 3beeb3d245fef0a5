// sealift-controllerd: keeps the inventory, decides who may move where, and hands out the keys.
#include "controller/daemon.h"
#include "keys/random.h"

int main(int argc, char** argv) {
  sealift::keys::SystemRandom random;
  return sealift::controller::RunDaemon(argc, argv, random);
}
