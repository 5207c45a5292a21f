"""The API's Serve application, as ``serve_config.yaml`` names it.

No postponed annotations here: Serve reads the builder's to validate ``args``.
"""

from ray import serve

from serve_app.config import AppArgs
from serve_app.deployment import Ingress, build_api, require_doors


def build_app(args: AppArgs) -> serve.Application:
    """Bind the API; it finds the Detector by name and starts the supervisor where there is none yet.

    Raises OpenDoors where others than this machine could call it and it asks nobody, EngineError where its doors can't
    be as wanted.
    """
    require_doors(args)
    ingress = serve.deployment(
        name="Ingress",
        num_replicas=args.num_replicas,
        max_ongoing_requests=1000,  # every open viewer holds one
        ray_actor_options={"num_cpus": 0.1},
    )(serve.ingress(lambda: build_api(args))(Ingress))
    application: serve.Application = ingress.bind(args)
    return application
