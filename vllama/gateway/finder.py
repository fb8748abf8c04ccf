"""From the body of a request to what it wants."""

import msgspec

from vllama.controller.control import Control, Unresolved
from vllama.gateway import errors
from vllama.gateway.forms import NotAForm, read_form
from vllama.gateway.inference import Refused, Wanted, resolved
from vllama.gateway.keep_alive import NoDuration, keep_alive_of
from vllama.gateway.makers import Makers
from vllama.gateway.names import NoModel, NotJson, Said, said_in
from vllama.gateway.paths import CREATE_RESPONSE, ROUTES, Route, response_id


class Finder:
    """What a name means is looked up once, until it may mean something else."""

    __slots__ = ("_control", "_known", "_makers", "_revision")

    def __init__(self, control: Control, makers: Makers) -> None:
        self._control, self._makers = control, makers
        self._known: dict[tuple[bytes, str], Wanted] = {}  # by path and name
        self._revision = -1

    def find(self, path: bytes, head: bytes, body: bytes | bytearray) -> Wanted:
        """For an inference request. Raises Refused: no `model`, no such model, or it does not do such things."""
        route = ROUTES.get(path)
        if route is None:
            return self._maker(path)
        try:
            form = read_form(head, body) if route.form else None
            said = said_in(body) if form is None else form.said
            wanted = self._meant(said.model or "", path, route)
            if said == wanted.said and form is None:
                return wanted
            engine_id = self._earlier(said, wanted) if path == CREATE_RESPONSE else None
            return msgspec.structs.replace(
                wanted, engine_id=engine_id, said=said, has_ours=said.has_ours, form=form,
                keep_alive=keep_alive_of(said),
            )  # fmt: skip
        except NotJson as error:
            raise Refused(errors.not_json(str(error))) from None
        except NotAForm as error:
            raise Refused(errors.not_a_form(str(error))) from None
        except NoModel:
            raise Refused(errors.no_model()) from None
        except NoDuration as error:
            raise Refused(errors.invalid(f"{error}.")) from None

    def _meant(self, name: str, path: bytes, route: Route) -> Wanted:
        """By a body that says nothing but this name. Raises Refused, and that is not kept: anything may be a name."""
        known, revision = self._known, self._control.revision
        if revision != self._revision:
            self._revision = revision
            known.clear()
        wanted = known.get((path, name))
        if wanted is None:
            found = resolved(self._control, name, path, route.needs)
            wanted = known[path, name] = msgspec.structs.replace(found, said=Said(model=name))
        return wanted

    def _maker(self, path: bytes) -> Wanted:
        """For a request about a response that was made before. Raises Refused: nobody who is still there made it."""
        name = response_id(path)
        maker = self._makers.of(name)
        if maker is None or not self._control.has_engine(maker.engine_id):
            raise Refused(errors.unknown_response(name))
        found = self._control.resolve(maker.model)
        if isinstance(found, Unresolved):
            raise Refused(errors.unresolved(found))
        return Wanted(name=maker.model, spec=found, engine_id=maker.engine_id)

    def _earlier(self, said: Said, wanted: Wanted) -> str | None:
        """Who made the response that this one goes on from, as no other replica or server knows it.

        Where nobody is known to have made it any engine may say so.
        """
        earlier = said.previous_response_id
        maker = self._makers.of(earlier) if isinstance(earlier, str) else None
        if maker is None or maker.model != wanted.spec.model or not self._control.has_engine(maker.engine_id):
            return None
        return maker.engine_id
