package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeCluster (60), versions 0 to 2: brokers, controller and cluster id, as Metadata without topics. Only brokers
// can be asked about: the controllers are no endpoints of their own (MISMATCHED_ENDPOINT_TYPE).

// Endpoint types (KIP-919).
const (
	endpointBrokers     int8 = 1
	endpointControllers int8 = 2
)

func (s *Server) handle60DescribeCluster(r *request) {
	req := r.body.(*kmsg.DescribeClusterRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ControllerID, resp.ClusterID, resp.EndpointType = -1, snap.ClusterID, req.EndpointType
	resp.ClusterAuthorizedOperations = notAsked
	if r.version >= 1 && req.EndpointType != endpointBrokers {
		text := "this endpoint is a broker's"
		resp.ErrorCode, resp.ErrorMessage = codeUnsupportedEndpointType, &text
		if req.EndpointType == endpointControllers {
			resp.ErrorCode = codeMismatchedEndpointType
		}
		r.respond(resp)
		return
	}
	resp.ControllerID = s.controllerID(snap)
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	for _, n := range s.nodes(r.conn, snap) {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = n.id, n.host, n.port, n.rack
		resp.Brokers = append(resp.Brokers, b)
	}
	r.respond(resp)
}
