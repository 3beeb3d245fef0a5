// UserService of the API.
#pragma once

#include "controller/users.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

// UserServiceImpl: everything handed in outlives it.
class UserServiceImpl final : public v1::UserService::Service {
 public:
  UserServiceImpl(Users& users, store::Store& store) : users_(users), store_(store) {}

  grpc::Status Add(grpc::ServerContext* context, const v1::AddUserRequest* request,
                   v1::AddUserResponse* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListUsersRequest* request,
                    v1::ListUsersResponse* response) override;
  grpc::Status Revoke(grpc::ServerContext* context, const v1::RevokeUserRequest* request,
                      v1::RevokeUserResponse* response) override;

 private:
  Users& users_;
  store::Store& store_;
};

}  // namespace sealift::controller
